import json
import math
import re

import pytest
import torch

from nvreg.errors import UserError
from nvreg.finetune import fisher as module
from nvreg.finetune.dropout import dropout_sites
from nvreg.finetune.fisher import Fisher, estimate_fisher
from nvreg.finetune.text import Columns, Text, fisher_of_file
from nvreg.models import IGNORED
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.progress import Progress
from nvreg.tasks import TASKS
from tests.models.architectures import random_ids
from tests.models.running import of

EXAMPLES = 6


class Killed(BaseException):
    """What no handler catches."""


def sequences_of(architecture, model):
    """Single sequences of different lengths, with labels."""

    def sequences(number):
        ids = random_ids(1, 4 + number, seed=number)
        labels = random_ids(1, 5, seed=100 + number) if architecture.is_encoder_decoder else ids
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    return sequences


def estimate(model, sequences, **options):
    return estimate_fisher(model, sequences, EXAMPLES, loss="causal", data="text", **options)


@of("bert", "distilbert", "gpt2", "bart", "marian", "t5", "llama")
def test_scores_are_means_of_squared_gradients_of_single_sequences(architecture):
    model = architecture.build()
    sequences = sequences_of(architecture, model)
    fisher = estimate(model, sequences)
    body = dict(model.base_model.named_parameters())
    squares = {name: torch.zeros_like(tensor) for name, tensor in body.items()}
    for number in range(EXAMPLES):
        for sequence in sequences(number):
            model.zero_grad()
            model.eval()(**sequence).loss.backward()
            for name, tensor in body.items():
                if tensor.grad is not None:
                    squares[name] += tensor.grad.square() / EXAMPLES
    assert fisher.sequences == EXAMPLES
    sites = dropout_sites(model, next(sequences(0)))
    assert list(fisher.sites) == [site.name for site in sites]
    for site in sites:
        means = [squares[tensor].mean().item() for tensor in site.tensors]
        assert list(fisher.sites[site.name].values()) == pytest.approx(means, rel=1e-9)
        assert fisher.scores[site.name] == pytest.approx(sum(means) / len(means), rel=1e-9)
    assert max(fisher.scores.values()) > 0


@of("bert")
def test_squares_are_of_each_sequence_and_not_of_their_batch(architecture):
    """The squared gradient of a batch's mean loss would be another number."""
    model = architecture.build()
    fisher = estimate(model, sequences_of(architecture, model))
    alone = [
        estimate_fisher(
            model, lambda _, n=n: sequences_of(architecture, model)(n), 1, loss="causal", data="text"
        )
        for n in range(EXAMPLES)
    ]
    for site, score in fisher.scores.items():
        assert score == pytest.approx(sum(each.scores[site] for each in alone) / EXAMPLES, rel=1e-9)


@of("bert")
def test_dropout_is_off(architecture):
    model = architecture.build()
    sequences = sequences_of(architecture, model)
    assert estimate(model.train(), sequences) == estimate(model, sequences)


@of("bert")
def test_a_killed_estimation_goes_on_where_it_was(architecture, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_PERIOD", 0.0)
    model, partial = architecture.build(), tmp_path / "part"
    sequences, done, partial_is_used = sequences_of(architecture, model), [], False
    expected = estimate(model, sequences)

    def killed(number):
        done.append(number)
        if number == 4 and not partial_is_used:
            raise Killed
        yield from sequences(number)

    with pytest.raises(Killed):
        estimate(model, killed, partial=partial)
    done.clear()
    partial_is_used = True
    assert estimate(model, killed, partial=partial) == expected
    assert done == [0, 4, 5]  # the first finds the sites
    assert not partial.exists()


@of("bert")
def test_what_is_kept_of_other_work_or_broken_is_not_used(architecture, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_PERIOD", 0.0)
    model, partial = architecture.build(), tmp_path / "part"
    sequences = sequences_of(architecture, model)
    expected = estimate(model, sequences)

    def step():
        raise Killed

    with pytest.raises(Killed):
        estimate_fisher(
            model, sequences, EXAMPLES, loss="causal", data="other text", partial=partial, step=step
        )
    partial.write_text(partial.read_text() if partial.exists() else "{}")
    assert estimate(model, sequences, partial=partial) == expected
    partial.write_text('{"key": {')
    assert estimate(model, sequences, partial=partial) == expected


@of("bert")
def test_scores_survive_a_file_and_know_their_model(architecture, tmp_path):
    model, path = architecture.build(dtype=torch.float32), tmp_path / "fisher.json"
    fisher = estimate(model, sequences_of(architecture, model))
    fisher.save(path)
    assert Fisher.load(path) == fisher
    assert json.loads(path.read_text())["scores"] == fisher.scores
    fisher.check(model)
    with pytest.raises(UserError, match="expected Fisher scores of this model"):
        fisher.check(architecture.build(seed=1, dtype=torch.float32))


@of("bert")
def test_scores_that_have_changed_are_refused_and_those_without_a_digest_are_read(architecture, tmp_path):
    model, path = architecture.build(dtype=torch.float32), tmp_path / "fisher.json"
    fisher = estimate(model, sequences_of(architecture, model))
    fisher.save(path)
    document = json.loads(path.read_text())
    site = next(iter(document["sites"]))
    tensor = next(iter(document["sites"][site]))
    document["sites"][site][tensor] *= 2
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"as they were written in .*fisher.json, got others"):
        Fisher.load(path)
    del document["digest"]
    path.write_text(json.dumps(document))
    assert Fisher.load(path).sites == document["sites"]
    document["sites"][site][tensor] = math.nan
    path.write_text(json.dumps(document))
    with pytest.raises(
        UserError, match=rf"fisher.json: sites.{re.escape(site)}.* expected a .*finite number"
    ):
        Fisher.load(path)


@of("bert")
def test_work_so_far_that_has_changed_is_begun_anew_with_a_line(architecture, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_PERIOD", 0.0)
    model, partial, lines = architecture.build(), tmp_path / "part", []
    sequences = sequences_of(architecture, model)
    expected = estimate(model, sequences)

    def killed(number):
        if number == 4:
            raise Killed
        yield from sequences(number)

    with pytest.raises(Killed):
        estimate(model, killed, partial=partial)
    document = json.loads(partial.read_text())
    document["examples"] = 1
    partial.write_text(json.dumps(document))
    assert estimate(model, sequences, partial=partial, say=lines.append) == expected
    assert lines == [f"{partial} is not as it was written; the estimation begins anew"]


@of("bert")
def test_what_is_not_finite_has_no_scores(architecture):
    model = architecture.build()
    sequences = sequences_of(architecture, model)
    with torch.no_grad():
        model.base_model.encoder.layer[0].output.dense.bias[0] = torch.inf
    with pytest.raises(UserError, match=r"^example 1: expected a finite loss and finite gradients, got"):
        estimate(model, sequences)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "[" * 100_000, '{"format": "nvreg-fisher-0"}', '{"format": "x"']
)
def test_another_file_is_a_clear_error(tmp_path, content):
    path = tmp_path / "fisher.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        UserError, match=r"expected Fisher scores written|fisher.json: .*expected .*; estimate"
    ):
        Fisher.load(path)


@pytest.fixture
def text_of(workshop):
    def text_of(kind, columns, task=None, limit=None):
        path = workshop / kind
        model, tokenizer = load_model(path, task and TASKS[task].auto_class), load_tokenizer(path)
        return model, Text(model, tokenizer, workshop / "train.jsonl", columns, limit)

    return text_of


@pytest.mark.parametrize(
    ("kind", "columns", "loss"),
    [("gpt2", Columns("en"), "causal"), ("bart", Columns("en", target="de"), "seq2seq")],
)
def test_columns_and_model_decide_the_loss(text_of, kind, columns, loss):
    model, text = text_of(kind, columns)
    assert text.loss == loss
    assert text.examples == 12
    sequences = [sequence for number in range(12) for sequence in text.sequences(number)]
    assert all(len(sequence["input_ids"]) == 1 for sequence in sequences)
    assert all(math.isfinite(model(**sequence).loss.item()) for sequence in sequences)
    assert estimate_fisher(model, text.sequences, 12, loss=loss, data="").sequences == len(sequences)


def test_classification_has_a_loss_of_labels(tuned, workshop):
    path = tuned("bert", "head-only")
    fisher = fisher_of_file(
        str(path),
        path / "fisher.json",
        workshop / "train.jsonl",
        Columns("en", label="mood"),
        limit=5,
        progress=Progress(quiet=True),
    )
    assert (fisher.loss, fisher.sequences) == ("classification", 5)
    # The body is the pretrained one, so that these scores serve its fine-tuning.
    fisher.check(load_model(workshop / "bert"))


def test_masked_language_modelling_predicts_the_true_tokens(workshop, tmp_path):
    from transformers import AutoConfig, BertForMaskedLM

    model = BertForMaskedLM(AutoConfig.from_pretrained(workshop / "bert")).eval()
    tokenizer = load_tokenizer(workshop / "bert")
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    model.resize_token_embeddings(len(tokenizer))
    path = tmp_path / "text.jsonl"
    words = ["cat", "dog", "bird", "tree"]
    lines = [json.dumps({"en": " ".join(words * repeats)}) for repeats in (1, 1, 1, 10, 10, 10, 10, 10)]
    path.write_text("\n".join(lines))
    text = Text(model, tokenizer, path, Columns("en"))
    assert text.loss == "masked-lm"
    masked = total = 0
    for number, repeats in enumerate((1, 1, 1, 10, 10, 10, 10, 10)):
        (sequence,) = text.sequences(number)
        (again,) = text.sequences(number)
        assert torch.equal(sequence["input_ids"], again["input_ids"])
        labels = sequence["labels"]
        scored = labels != IGNORED
        assert scored.any(), "a short text is masked until something is"
        true = tokenizer(" ".join(words * repeats), return_tensors="pt").input_ids
        assert torch.equal(labels[scored], true[scored])
        assert torch.equal(sequence["input_ids"][~scored], true[~scored])
        if repeats > 1:
            masked, total = masked + scored.sum().item(), total + labels.numel()
    assert 0.08 < masked / total < 0.25
    fisher = estimate_fisher(model, text.sequences, text.examples, loss=text.loss, data="")
    assert all(score > 0 for score in fisher.scores.values())


def test_a_limit_takes_random_examples(text_of):
    _, some = text_of("gpt2", Columns("en"), limit=4)
    _, all_of_them = text_of("gpt2", Columns("en"), limit=12)
    _, first = text_of("gpt2", Columns("en"), limit=4)
    assert some.examples == 4
    assert some.fingerprint == first.fingerprint != all_of_them.fingerprint


def test_a_model_without_the_head_of_the_loss_is_a_clear_error(workshop, tmp_path):
    out, data, quiet = tmp_path / "fisher.json", workshop / "train.jsonl", Progress(quiet=True)
    with pytest.raises(UserError, match=r"all weights of BertForMaskedLM, .*--label-column"):
        fisher_of_file(str(workshop / "bert"), out, data, Columns("en"), None, quiet)
    with pytest.raises(UserError, match="expected --target-column with an encoder-decoder model"):
        fisher_of_file(str(workshop / "bart"), out, data, Columns("en"), None, quiet)
    with pytest.raises(UserError, match="expected a model whose kind is encoder-decoder"):
        fisher_of_file(str(workshop / "gpt2"), out, data, Columns("en", target="de"), None, quiet)
    assert not list(tmp_path.iterdir())
