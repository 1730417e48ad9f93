import math

import pytest
import torch

import nvreg
from nvreg.config import Evaluation, Reading, Source
from nvreg.data import Examples, load_examples
from nvreg.diagnostics import recording
from nvreg.metrics import score
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.tasks import TASKS, make_task
from tests.models.architectures import ARCHITECTURES
from tests.tiny import LEXICON, word_tokenizer

KINDS = {"gpt2": "<s> $A", "llama": "$A", "bert": "<s> $A </s>", "t5": "$A </s>", "bart": "<s> $A </s>"}


def build(name):
    (architecture,) = [each for each in ARCHITECTURES if each.name == name]
    return architecture.build(dtype=torch.float32)


def texts(count=5, seed=0):
    generator, words = torch.Generator().manual_seed(seed), list(LEXICON)
    lengths = [1, 30, *torch.randint(2, 25, (count - 2,), generator=generator).tolist()]
    drawn = [torch.randint(len(words), (length,), generator=generator).tolist() for length in lengths]
    return Examples([{"text": " ".join(words[word] for word in text)} for text in drawn])


def modelling(model, tokenizer, batch_tokens="auto", window=8, stride=3, max_length=None, prefix="none"):
    evaluation = Evaluation(
        metrics=TASKS["language-modelling"].metrics(),
        batch_tokens=batch_tokens,
        window=window,
        stride=stride,
        prefix=prefix,
    )
    return make_task(
        "language-modelling",
        tokenizer,
        model.config,
        data=Reading(max_length=max_length),
        evaluation=evaluation,
    )


def scored(name, tokenizer=None, examples=None, **options):
    model = build(name)
    task = modelling(model, tokenizer or word_tokenizer(KINDS[name]), **options)
    return task.score(model, task.encode(examples or texts()))


@pytest.mark.parametrize("window", [None, 64])
def test_a_text_within_the_window_scores_as_the_models_own_loss(window):
    model, tokenizer = build("llama"), word_tokenizer("<s> $A")
    task = modelling(model, tokenizer, window=window, stride=None)
    frame = task.score(model, task.encode(texts()))
    assert list(frame.columns) == ["id", "likelihood", "text", "tempered"]
    for record, (nats, tokens, characters) in zip(texts().records, frame["likelihood"], strict=True):
        ids = tokenizer(record["text"], return_tensors="pt").input_ids
        assert tokens == ids.shape[1] - 1
        assert nats / tokens == pytest.approx(model(input_ids=ids, labels=ids).loss.item(), rel=1e-5)
        assert characters == len(record["text"])


@pytest.mark.parametrize("name", KINDS)
def test_windows_score_as_each_token_on_its_context_alone(name):
    model, tokenizer = build(name), word_tokenizer(KINDS[name])
    task, window, stride = modelling(model, tokenizer), 8, 3
    (record,) = texts().records[1:2]
    ids = tokenizer(record["text"], add_special_tokens=False).input_ids
    ((nats, tokens, _),) = task.score(model, task.encode(Examples([record])))["likelihood"]
    expected = []
    for position, token in enumerate(ids):
        if name in ("t5", "bart"):
            first = position // stride * stride
            inner = ids[max(0, first - (window - stride - KINDS[name].count("s>"))) : first]
            source = tokenizer(tokenizer.decode(inner), return_tensors="pt").input_ids
            assert source[0, 0] == (1 if name == "bart" else (*inner, 2)[0])
            logits = model(input_ids=source, labels=torch.tensor([ids[first : position + 1]])).logits[0, -1]
        elif name == "bert":
            width = window - 2
            end = next(end for end in [*range(width, 30, 3), 30] if end > position)
            masked = ids[end - width : end]
            masked[position - end + width] = tokenizer.mask_token_id
            logits = model(input_ids=torch.tensor([[1, *masked, 2]])).logits[0, position - end + width + 1]
        else:
            whole, place = ([1, *ids], position + 1) if name == "gpt2" else (ids, position)
            if place == 0:
                continue
            inputs = len(whole) - 1
            end = next(end for end in [*range(window, inputs, stride), inputs] if end >= place)
            logits = model(input_ids=torch.tensor([whole[end - window : place]])).logits[0, -1]
        expected.append(-logits.log_softmax(-1)[token].item())
    assert tokens == len(expected) == (29 if name == "llama" else 30)
    assert nats == pytest.approx(sum(expected), rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 17, 100_000])
def test_scores_do_not_depend_on_the_size_of_batches_or_the_side_of_padding(name, batch_tokens):
    tokenizer = word_tokenizer(KINDS[name])
    tokenizer.padding_side = "left"
    frame, expected = scored(name, tokenizer, batch_tokens=batch_tokens), scored(name)
    for metric in TASKS["language-modelling"].metrics():
        assert score(frame, metric) == pytest.approx(score(expected, metric), rel=1e-6)


def test_without_a_beginning_of_sequence_the_first_token_is_not_scored():
    examples = Examples([{"text": "small cat ."}, {"text": "cat"}, {"text": ""}])
    rows = scored("gpt2", word_tokenizer("$A"), examples)["likelihood"]
    assert [row[1:] for row in rows] == [[2, len(" cat .")], [0, 0], [0, 0]]
    assert rows[1][0] == rows[2][0] == 0
    rows = scored("gpt2", word_tokenizer("<s> $A"), examples)["likelihood"]
    assert [row[1:] for row in rows] == [[3, len("small cat .")], [1, 3], [0, 0]]


def test_bytes_and_words_are_those_of_the_scored_text():
    """A first token without context is neither scored nor counted; words are what white space parts."""
    examples = Examples([{"text": "small  Bäume ."}, {"text": " cat"}, {"text": ""}])
    rows = scored("gpt2", word_tokenizer("<s> $A"), examples)["text"]
    assert [row[1:] for row in rows] == [[len("small  Bäume .".encode()), 3], [4, 2], [0, 0]]
    without = scored("gpt2", word_tokenizer("$A"), examples)["text"]
    assert [row[1:] for row in without] == [[len("  Bäume .".encode()), 3], [0, 0], [0, 0]]
    frame = scored("gpt2", word_tokenizer("<s> $A"), examples)
    nats, size, words = (sum(row[column] for row in rows) for column in range(3))
    assert score(frame, "bits-per-byte") == pytest.approx(nats / size / math.log(2))
    assert score(frame, "byte-perplexity") == pytest.approx(math.exp(nats / size))
    assert score(frame, "word-perplexity") == pytest.approx(math.exp(nats / words))
    assert score(frame, "nll") * frame["likelihood"].map(lambda row: row[1]).sum() == pytest.approx(nats)


@pytest.mark.parametrize(
    ("template", "prefix", "like", "said"),
    [
        ("$A", "auto", "<s> $A", "bos:yes|prefix:bos"),
        ("$A", "bos", "<s> $A", "bos:yes|prefix:bos"),
        ("<s> $A", "bos", "<s> $A", "bos:yes|prefix:own"),
        ("$A", "none", "$A", "bos:no"),
    ],
)
def test_a_prefix_is_context_as_a_tokenizers_own_is(template, prefix, like, said):
    frame = scored("gpt2", word_tokenizer(template), prefix=prefix)
    expected = scored("gpt2", word_tokenizer(like))
    assert frame["likelihood"].tolist() == expected["likelihood"].tolist()
    task = modelling(build("gpt2"), word_tokenizer(template), prefix=prefix)
    assert task.signatures["nll"].endswith(f"|{said}")


def test_what_no_decoder_reads_has_no_beginning_of_sequence():
    task = modelling(build("bert"), word_tokenizer(KINDS["bert"]), prefix="auto")
    assert task.signatures["nll"].endswith("pseudo:one-token-masked")
    with pytest.raises(nvreg.UserError, match=r"evaluation.prefix: .* encoder-only, got bos"):
        modelling(build("bert"), word_tokenizer(KINDS["bert"]), prefix="bos")


def test_what_is_beyond_max_length_is_counted_and_not_scored():
    model, tokenizer = build("gpt2"), word_tokenizer("<s> $A")
    task = modelling(model, tokenizer, max_length=2)
    encoded = task.encode(Examples([{"text": "small cat sees"}, {"text": "big dog"}]))
    assert encoded.truncated == 1
    rows = task.score(model, encoded)["likelihood"]
    assert [row[1:] for row in rows] == [[2, len("small cat")], [2, len("big dog")]]


@pytest.mark.parametrize("name", KINDS)
def test_batches_feed_the_prior_and_the_record(name):
    model, tokenizer = build(name), word_tokenizer(KINDS[name])
    task = modelling(model, tokenizer, batch_tokens=20)
    encoded = task.encode(texts())
    batches = list(task.teacher_forced(encoded))
    assert all(batch["input_ids"].shape[1] <= 8 and batch["input_ids"].numel() <= 20 for batch in batches)
    prior = nvreg.estimate_prior(model, batches)
    words = sum(len(record["text"].split()) for record in texts().records)
    read = sum(int(batch["attention_mask"].sum()) for batch in batches)
    seen = {prior[site].tokens for site in prior}
    assert seen == ({read, words} if name in ("t5", "bart") else {read})
    assert read >= words
    nvreg.convert_(model, prior, nvreg.Settings(tau_alpha=0.0))
    with torch.inference_mode(), recording(model) as record:
        for batch in batches:
            model(**batch)
    assert 0 < record.prior_weight < 1


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_is_all_of_some_texts(name):
    model = build(name)
    task = modelling(model, word_tokenizer(KINDS[name]))
    encoded = task.encode(texts())
    batch = task.batch(encoded, [1, 2])
    lengths = [len(encoded.tokens[index]) for index in (1, 2)]
    if name in ("t5", "bart"):
        assert (batch["labels"] != -100).sum() == sum(lengths)
    elif name == "bert":
        assert batch["attention_mask"].sum() == sum(lengths) + 2 * len(batch["input_ids"])
        assert "labels" not in batch
    else:
        assert batch["attention_mask"].sum() == sum(lengths) + 2 * KINDS[name].count("<s>")
        assert torch.equal(batch["labels"] != -100, batch["attention_mask"].bool())
    if name != "bert":
        assert model(**batch).loss > 0


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("gpt2", "unit:nat|scored:tokens|window:8|stride:3|bos:yes"),
        ("llama", "unit:nat|scored:tokens|window:8|stride:3|bos:no"),
        ("bert", "unit:nat|scored:tokens|window:8|stride:3|pseudo:one-token-masked"),
        ("t5", "unit:nat|scored:tokens|window:8|stride:3|context:encoder"),
    ],
)
def test_the_signature_says_how_each_kind_is_scored(name, described):
    task = modelling(build(name), word_tokenizer(KINDS[name]))
    assert task.signatures["nll"] == described


def test_by_default_the_window_is_the_models_and_half_of_it_the_stride():
    task = modelling(build("gpt2"), word_tokenizer("$A", limit=20), window=None, stride=None)
    assert "window:20|stride:10" in task.signatures["nll"]


@pytest.mark.parametrize(
    ("name", "window", "stride", "message"),
    [
        ("gpt2", 65, 1, "evaluation.window: expected at most the model's 64 positions, got 65"),
        ("bert", 2, 1, "evaluation.window: expected more than the 2 tokens that the tokenizer adds"),
        ("gpt2", None, 65, "evaluation.stride: expected at most the window of 64, got 65"),
    ],
)
def test_a_window_that_the_model_cannot_read_is_refused(name, window, stride, message):
    with pytest.raises(nvreg.UserError, match=message):
        modelling(build(name), word_tokenizer(KINDS[name]), window=window, stride=stride)


def test_a_masked_model_needs_a_mask():
    tokenizer = word_tokenizer("<s> $A </s>")
    tokenizer.mask_token = None
    with pytest.raises(nvreg.UserError, match="expected a tokenizer with a mask token"):
        modelling(build("bert"), tokenizer)


@pytest.mark.parametrize(
    "name", ["distilbert", "electra", "camembert", "xlm-roberta-xl", "opt", "gptj", "umt5"]
)
def test_other_models_of_each_kind_score_without_a_cache(name):
    frame = scored(name, word_tokenizer("<s> $A"), window=12, stride=6)
    assert all(nats > tokens for nats, tokens, _ in frame["likelihood"])


def test_a_batch_of_a_text_without_tokens_has_no_row():
    task = modelling(build("gpt2"), word_tokenizer("$A"))
    encoded = task.encode(Examples([{"text": ""}]))
    assert task.batch(encoded, [0])["attention_mask"].sum() == 0
    assert list(task.teacher_forced(encoded)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "options", "perplexity"),
    [
        ("gpt2-wikitext2", "biomed", {"max_length": 512, "window": 512, "stride": 256}, 356),
        ("stories260k", "stories", {"window": 256, "stride": 256}, 3.7),
    ],
)
def test_real_models_score_as_published_beside_them(shared, model, data, options, perplexity):
    directory = shared / "models" / model
    real, tokenizer = load_model(directory, TASKS["language-modelling"].auto_class), load_tokenizer(directory)
    path = shared / "data" / "language-modelling" / data / "test.jsonl"
    examples = load_examples(Source(files=str(path), limit=100), {}, ["text"])
    task = modelling(real, tokenizer, **options)
    frame = task.score(real, task.encode(examples))
    assert score(frame, "perplexity") == pytest.approx(perplexity, rel=0.02)
