"""Every token of a text is scored once, on what the window and stride promise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.tasks.windows import CausalReader, EncoderDecoderReader, Frame, MaskedReader, frame_of, windows
from tests.tiny import word_tokenizer

MASK = -5
TOKENS = st.integers(0, 40).map(lambda count: list(range(100, 100 + count)))
FRAMES = st.sampled_from([Frame([], []), Frame([1], []), Frame([1], [2]), Frame([], [2])])
SIZES = st.tuples(st.integers(3, 12), st.integers(1, 12)).filter(lambda sizes: sizes[1] <= sizes[0])


@given(st.integers(0, 60), SIZES)
def test_windows_score_every_position_once_with_the_most_context_that_the_stride_allows(count, sizes):
    window, stride = sizes
    spans = list(windows(count, window, stride))
    assert [position for _, first, end in spans for position in range(first, end)] == list(range(count))
    for number, (start, first, end) in enumerate(spans):
        assert end - start == min(window, count)
        assert first == start == 0 if number == 0 else first - start >= window - stride
    assert sum(end - first == stride for _, first, end in spans[1:]) >= len(spans) - 2


@given(TOKENS, FRAMES, SIZES)
def test_a_causal_model_predicts_each_token_from_those_before_it(tokens, frame, sizes):
    window, stride = sizes
    reader = CausalReader(frame, *sizes)
    ids, scored = [*frame.prefix, *tokens], []
    for make in reader.rows(tokens):
        inputs, labels = make()
        assert len(inputs) == len(labels) <= window
        start = ids.index(inputs[0])
        for place, label in enumerate(labels):
            if label != -100:
                assert inputs[: place + 1] == ids[start : start + place + 1]
                assert label == ids[start + place + 1]
                assert start == 0 or place + 1 > window - stride
                scored.append(label)
    assert scored == tokens[reader.unscored :]


@given(TOKENS, FRAMES, SIZES)
def test_a_masked_model_predicts_each_token_from_all_others_of_its_window(tokens, frame, sizes):
    window, _ = sizes
    reader, scored = MaskedReader(frame, *sizes, MASK), []
    for make in reader.rows(tokens):
        inputs, labels = make()
        assert len(inputs) == len(labels) == min(window, len(tokens) + len(frame))
        (place,) = [place for place, label in enumerate(labels) if label != -100]
        assert inputs[place] == MASK
        around = [*inputs[:place], labels[place], *inputs[place + 1 :]]
        text = around[len(frame.prefix) : len(around) - len(frame.suffix)]
        assert around == frame.around(text)
        start = tokens.index(text[0])
        assert text == tokens[start : start + len(text)]
        scored.append(labels[place])
    assert scored == tokens


@given(TOKENS, FRAMES, SIZES)
def test_a_decoder_predicts_a_stride_after_what_the_encoder_reads(tokens, frame, sizes):
    window, stride = sizes
    scored = []
    for make in EncoderDecoderReader(frame, *sizes).rows(tokens):
        inputs, labels = make()
        context = inputs[len(frame.prefix) : len(inputs) - len(frame.suffix)]
        assert inputs == frame.around(context)
        room = max(0, window - stride - len(frame))
        assert context == tokens[max(0, len(scored) - room) : len(scored)]
        assert 0 < len(labels) <= stride
        scored += labels
    assert scored == tokens


@given(TOKENS, FRAMES, SIZES)
def test_pieces_read_every_token_once(tokens, frame, sizes):
    window, _ = sizes
    causal = CausalReader(frame, *sizes).pieces(tokens)
    assert [token for row in causal for token in row.inputs] == [*frame.prefix, *tokens]
    assert all(row.inputs == row.labels and len(row.inputs) <= window for row in causal)
    masked = MaskedReader(frame, *sizes, MASK).pieces(tokens)
    read = [row.inputs[len(frame.prefix) : len(row.inputs) - len(frame.suffix)] for row in masked]
    assert [token for piece in read for token in piece] == tokens
    assert all(len(row.inputs) <= window and not row.labels for row in masked)
    decoded = EncoderDecoderReader(frame, *sizes).pieces(tokens)
    assert [token for row in decoded for token in row.labels] == tokens


@pytest.mark.parametrize(
    ("template", "frame"),
    [
        ("$A", Frame([], [])),
        ("<s> $A", Frame([1], [])),
        ("<s> $A </s>", Frame([1], [2])),
        ("$A </s>", Frame([], [2])),
    ],
)
def test_the_frame_is_what_the_tokenizer_adds(template, frame):
    assert frame_of(word_tokenizer(template)) == frame
