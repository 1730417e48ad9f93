import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

import nvreg
from nvreg.config import Evaluation, Reading, Source
from nvreg.data import Examples, load_examples
from nvreg.diagnostics import recording
from nvreg.errors import UserError
from nvreg.metrics import Tokenisation, score
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.tasks import make_task
from tests.models.architectures import ARCHITECTURES
from tests.tiny import tiny_marian, word_tokenizer, write_corpus

EOS = 1
METRICS = ("nll", "perplexity", "bits-per-character", "bleu", "chrf", "rouge1", "rougeLsum", "length-ratio")


@pytest.fixture(scope="module")
def tiny():
    return tiny_marian()


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    path = write_corpus(tmp_path_factory.mktemp("corpus")) / "home" / "test.jsonl"
    return load_examples(Source(files=str(path)), {"source": "en", "target": "de"}, ("source", "target"))


def translation(
    tiny, metrics=("nll", "bleu", "chrf"), batch_tokens="auto", beams=1, new_tokens=12, **reading
):
    model, tokenizer = tiny
    generation = {"num_beams": beams, "max_new_tokens": new_tokens}
    evaluation = Evaluation(metrics=list(metrics), batch_tokens=batch_tokens, generation=generation)
    return make_task("translation", tokenizer, model.config, data=Reading(**reading), evaluation=evaluation)


def pairs(*texts):
    return Examples([{"source": source, "target": target} for source, target in texts])


def test_likelihood_of_each_example_is_the_models_own_loss_of_it_alone(tiny, examples):
    model, tokenizer = tiny
    task = translation(tiny, metrics=["nll"])
    frame = task.score(model, task.encode(examples))
    assert list(frame.columns) == ["id", "likelihood", "tempered"]
    assert list(frame["id"]) == list(range(len(examples)))
    for record, (nll, tokens, characters) in zip(examples.records, frame["likelihood"], strict=True):
        alone = tokenizer(record["source"], text_target=record["target"], return_tensors="pt")
        assert tokens == alone["labels"].shape[1]
        assert nll / tokens == pytest.approx(model(**alone).loss.item(), rel=1e-6)
        assert characters == len(record["target"])


@pytest.mark.parametrize("beams", [1, 3])
def test_predictions_are_what_the_model_generates_one_by_one(tiny, examples, beams):
    model, tokenizer = tiny
    task = translation(tiny, metrics=["bleu", "chrf"], beams=beams)
    frame = task.score(model, task.encode(examples))
    assert set(frame.columns) == {"id", "prediction", "bleu", "chrf"}
    assert len(set(frame["prediction"])) > 3
    for record, prediction in zip(examples.records, frame["prediction"], strict=True):
        alone = tokenizer(record["source"], return_tensors="pt")
        tokens = model.generate(**alone, num_beams=beams, max_new_tokens=12)
        assert prediction == tokenizer.decode(tokens[0], skip_special_tokens=True)


@pytest.mark.parametrize("batch_tokens", [1, 9, 23, 100_000])
def test_scores_do_not_depend_on_the_size_of_batches(tiny, examples, batch_tokens):
    model, _ = tiny
    usual, other = translation(tiny, METRICS), translation(tiny, METRICS, batch_tokens)
    frame, expected = (task.score(model, task.encode(examples)) for task in (other, usual))
    assert list(frame["prediction"]) == list(expected["prediction"])
    for name in METRICS:
        assert score(frame, name) == pytest.approx(score(expected, name), rel=1e-6)


def test_what_is_recorded_while_scoring_is_of_real_tokens(examples):
    model, tokenizer = tiny_marian()
    nvreg.convert_(model, nvreg.Prior.gaussian(model), nvreg.Settings(tau_alpha={"cross": 0, "decoder": 0}))
    recorded = []
    for batch_tokens in (1, 100_000):
        task = translation((model, tokenizer), ["nll"], batch_tokens)
        with recording(model) as record:
            task.score(model, task.encode(examples))
        recorded.append(record.prior_weight)
    assert 0 < recorded[0] == pytest.approx(recorded[1], rel=1e-6)


def test_only_what_the_metrics_need_is_run(tiny, examples, monkeypatch):
    model, _ = tiny
    likelihood, generated = translation(tiny, ["perplexity"]), translation(tiny, ["bleu"])
    encoded = likelihood.encode(examples)
    with monkeypatch.context() as patched:
        patched.setattr(model, "generate", None)
        assert "prediction" not in likelihood.score(model, encoded)
    calls = []
    hook = model.register_forward_pre_hook(
        lambda *call: calls.append(call[2].get("labels")), with_kwargs=True
    )
    generated.score(model, encoded)
    hook.remove()
    assert calls
    assert all(labels is None for labels in calls)


def test_teacher_forced_batches_hold_every_example_once_padded_on_the_right(tiny, examples):
    _, tokenizer = tiny
    task = translation(tiny, batch_tokens=25)
    batches = list(task.teacher_forced(task.encode(examples)))
    found = []
    for batch in batches:
        assert batch["input_ids"].numel() <= 25
        assert batch["labels"].numel() <= 25
        for ids, mask, labels in zip(
            *(batch[key] for key in ("input_ids", "attention_mask", "labels")), strict=True
        ):
            length, scored = int(mask.sum()), int((labels != -100).sum())
            assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
            assert ids[length - 1] == labels[scored - 1] == EOS
            assert (ids[length:] == tokenizer.pad_token_id).all()
            assert (labels[scored:] == -100).all()
            found.append((tokenizer.decode(ids[: length - 1]), tokenizer.decode(labels[: scored - 1])))
    assert sorted(found) == sorted((record["source"], record["target"]) for record in examples.records)


def test_teacher_forced_batches_mix_lengths_the_same_way_each_time(tiny):
    task = translation(tiny, batch_tokens=1)
    encoded = task.encode(pairs(*(("cat " * length, "Kater") for length in range(1, 30))))
    widths = [batch["input_ids"].shape[1] for batch in task.teacher_forced(encoded)]
    assert widths == [batch["input_ids"].shape[1] for batch in task.teacher_forced(encoded)]
    assert 10 < sum(widths[:10]) / 10 < 20


def test_source_is_cut_to_max_length_and_target_to_the_models_limit_keeping_the_end(tiny):
    model, tokenizer = tiny
    long = " ".join(["Kater"] * 200)
    task = translation(tiny, ["bits-per-character"], max_length=4)
    encoded = task.encode(
        pairs(("a cat sees", "Kater"), ("a cat sees .", "Kater"), ("cat", long), (long, long))
    )
    assert encoded.truncated == 3
    assert tokenizer.convert_ids_to_tokens(encoded.sources[1]) == ["a", "cat", "sees", "</s>"]
    assert len(encoded.targets[2]) == 128
    assert encoded.targets[2][-1] == EOS
    frame = task.score(model, encoded)
    assert [tokens for _, tokens, _ in frame["likelihood"]] == [2, 2, 128, 128]
    assert [characters for _, _, characters in frame["likelihood"]] == [5, 5, 127 * 6 - 1, 127 * 6 - 1]


def test_source_prefix_goes_before_every_source(tiny):
    _, tokenizer = tiny
    encoded = translation(tiny, source_prefix="big ").encode(pairs(("cat", "Kater")))
    assert tokenizer.decode(encoded.sources[0]) == "big cat </s>"
    assert tokenizer.decode(encoded.targets[0]) == "Kater </s>"


def test_generation_follows_the_model_except_in_what_the_file_names(examples):
    model, tokenizer = tiny_marian()
    task = translation((model, tokenizer), ["bleu"], new_tokens=6)
    encoded = task.encode(examples)
    greedy = task.score(model, encoded)["prediction"]
    assert max(len(text.split()) for text in greedy) == 5  # and the forced end of sentence

    model.generation_config.update(do_sample=True, temperature=50.0, num_beams=4, max_length=3)
    assert list(task.score(model, encoded)["prediction"]) == list(greedy)

    forbidden = tokenizer.convert_tokens_to_ids("groß")
    assert any("groß" in text for text in greedy)
    model.generation_config.suppress_tokens = [forbidden]
    assert not any("groß" in text for text in task.score(model, encoded)["prediction"])


def test_model_without_a_limit_of_positions(tiny, examples):
    _, tokenizer = tiny_marian()
    tokenizer.model_max_length = 10**30
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        eos_token_id=EOS,
    )
    model = T5ForConditionalGeneration(config).eval()
    task = translation((model, tokenizer))
    encoded = task.encode(pairs(("cat " * 600, "Kater " * 600), ("cat", "Kater")))
    assert encoded.truncated == 0
    assert [len(source) for source in encoded.sources] == [601, 2]
    loss = model(**tokenizer("cat", text_target="Kater", return_tensors="pt")).loss.item()
    assert task.score(model, encoded)["likelihood"][1][0] == pytest.approx(2 * loss, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 129}, "data.max_length: expected at most the model's 128 positions, got 129"),
        ({"new_tokens": 129}, "evaluation.generation.max_new_tokens: expected at most the model's 128"),
        ({"source_language": "en"}, "expected none, as the model has one pair of languages, got en$"),
    ],
)
def test_what_the_model_cannot_do_is_refused(tiny, options, message):
    with pytest.raises(UserError, match=message):
        translation(tiny, **options)


def test_summarisation_is_translation_of_documents_to_summaries(tiny, examples):
    model, tokenizer = tiny
    metrics = ["nll", "rouge1", "rouge2", "rougeL", "rougeLsum", "overlap"]
    evaluation = Evaluation(metrics=metrics, generation={"num_beams": 1, "max_new_tokens": 12})
    task = make_task(
        "summarisation", tokenizer, model.config, data=Reading(source_prefix="big "), evaluation=evaluation
    )
    assert task.required == ("document", "summary")
    columns = {"source": "document", "target": "summary"}
    renamed = [{columns[name]: text for name, text in record.items()} for record in examples.records]
    frame = task.score(model, task.encode(Examples(renamed)))
    assert list(frame.columns) == [
        "id",
        "likelihood",
        "tempered",
        "prediction",
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum",
    ]
    other = translation(tiny, ["nll", "bleu"], source_prefix="big ")
    expected = other.score(model, other.encode(examples))
    assert frame[["likelihood", "prediction"]].equals(expected[["likelihood", "prediction"]])
    overlaps = task.with_overlap(frame, list(frame["prediction"]))["overlap"]
    assert [row == [1.0] for row in overlaps] == [any(map(str.isalnum, text)) for text in frame["prediction"]]


def test_signatures_describe_every_metric(tiny):
    signatures = translation(tiny, ["perplexity", "bleu", "overlap"]).signatures
    assert list(signatures) == ["perplexity", "bleu", "overlap"]
    assert signatures["perplexity"] == "exp:nll|scored:tokens+eos"
    assert signatures["overlap"] == f"reference:pretrained|{signatures['bleu']}"


CHINESE = ("我喜欢猫和狗。", "今天的天气比昨天好得多。")
TEXT_METRICS = ["bleu", "rougeL", "length-ratio"]


def copied(tiny, texts, monkeypatch, tokenizer=None, evaluation=None, **reading):
    """A task whose model generates the references, and its frame of scores."""
    model, usual = tiny
    metrics = Evaluation(metrics=TEXT_METRICS, **(evaluation or {}))
    data = Reading(**reading)
    task = make_task("translation", tokenizer or usual, model.config, data=data, evaluation=metrics)
    encoded = task.encode(pairs(*(("cat", text) for text in texts)))
    monkeypatch.setattr(type(task), "_generate", lambda *call: [texts[0]] * len(call[3]))
    frame = task.score(model, encoded)
    return task, frame


@pytest.mark.parametrize(
    "reading",
    [
        {"columns": {"target": "zh"}},
        {"columns": {"target": "translation.zh"}},
        {},
    ],
    ids=["column", "nested column", "script"],
)
def test_a_copy_in_chinese_scores_the_most(tiny, monkeypatch, reading):
    task, frame = copied(tiny, CHINESE[:1], monkeypatch, **reading)
    assert task.tokenisation == Tokenisation("zh", "characters")
    assert score(frame, "bleu") == pytest.approx(100)
    assert score(frame, "rougeL") == pytest.approx(1)
    assert "|tok:zh|" in task.signatures["bleu"]
    assert "|tok:unicode-characters|" in task.signatures["rougeL"]


def test_the_tokenizer_knows_the_language_of_its_targets(tiny, monkeypatch):
    _, tokenizer = tiny_marian()
    tokenizer.target_lang = "zho"
    task, _ = copied(tiny, CHINESE[:1], monkeypatch, tokenizer=tokenizer)
    assert task.tokenisation == Tokenisation("zh", "characters")
    assert not task.notes


def test_what_the_script_decides_is_said(tiny, monkeypatch):
    task, _ = copied(tiny, CHINESE, monkeypatch)
    (note,) = task.notes
    assert note.startswith("bleu, rougeL, length-ratio: BLEU is tokenised by zh, ROUGE counts characters, as")
    assert "Chinese script; evaluation.bleu_tokenize and evaluation.rouge_tokenize" in note


def test_the_first_references_decide_for_all(tiny, monkeypatch):
    task, _ = copied(tiny, CHINESE, monkeypatch)
    task.encode(pairs(("cat", "Kater")))
    assert task.tokenisation == Tokenisation("zh", "characters")
    plain, _ = copied(tiny, ["Kater"], monkeypatch)
    plain.encode(pairs(*(("cat", text) for text in CHINESE)))
    assert plain.tokenisation == Tokenisation("13a", "latin")
    assert not plain.notes


def test_the_file_goes_before_language_and_script(tiny, monkeypatch):
    said = {"bleu_tokenize": "13a", "rouge_tokenize": "words"}
    task, frame = copied(tiny, CHINESE[:1], monkeypatch, evaluation=said, columns={"target": "zh"})
    assert task.tokenisation == Tokenisation("13a", "words")
    assert score(frame, "bleu") == 0.0  # of one word
    half, _ = copied(tiny, CHINESE, monkeypatch, evaluation={"rouge_tokenize": "words"})
    assert half.tokenisation == Tokenisation("zh", "words")


def test_how_text_is_cut_is_in_the_signatures_alone(tiny, monkeypatch):
    """So that a trial's key is the same whether the file says it or it is decided so."""
    said = {"bleu_tokenize": "zh", "rouge_tokenize": "characters"}
    task, _ = copied(tiny, CHINESE, monkeypatch, evaluation=said)
    decided, _ = copied(tiny, CHINESE, monkeypatch)
    assert task.signatures == decided.signatures
    assert Evaluation(metrics=["bleu"], **said).options == Evaluation(metrics=["bleu"]).options


@pytest.mark.parametrize("name", ["m2m_100", "bert to gpt2", "t5"])
def test_every_way_to_feed_a_decoder_scores_as_the_models_own_loss(name):
    (architecture,) = [each for each in ARCHITECTURES if each.name == name]
    model, tokenizer = architecture.build(dtype=torch.float32), word_tokenizer("$A </s>")
    task = translation((model, tokenizer), ["nll"])
    data = pairs(("a cat sees", "ein Kater"), ("the", "Haus Baum . mag ein"))
    for record, (nll, tokens, _) in zip(
        data.records, task.score(model, task.encode(data))["likelihood"], strict=True
    ):
        alone = tokenizer(record["source"], text_target=record["target"], return_tensors="pt")
        assert nll / tokens == pytest.approx(model(**alone).loss.item(), rel=1e-5)


def test_unknown_task_is_refused_with_those_that_exist(tiny):
    model, tokenizer = tiny
    with pytest.raises(UserError, match=r"task: expected one of translation, .*got 'transcription'"):
        make_task(
            "transcription", tokenizer, model.config, data=Reading(), evaluation=Evaluation(metrics=["nll"])
        )


def test_real_marian_scores_as_published_beside_it(shared):
    directory = shared / "models" / "marian-tatoeba-en-de"
    real = load_model(directory), load_tokenizer(directory)
    source = Source(files=str(shared / "data" / "translation" / "tatoeba" / "test.jsonl"), limit=200)
    task = translation(real, ["perplexity", "bleu"], new_tokens=80)
    examples = load_examples(source, {"source": "en", "target": "de"}, task.required)
    frame = task.score(real[0], task.encode(examples))
    assert score(frame, "bleu") == pytest.approx(42.3, abs=0.1)
    assert score(frame, "perplexity") == pytest.approx(4.3, abs=0.1)
