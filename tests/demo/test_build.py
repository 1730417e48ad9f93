import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sacrebleu
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nvreg.demo import build_demo, translator
from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN
from nvreg.demo.recipe import FULL, Recipe

TINY = Recipe(
    training_pairs=100,
    validation_pairs=10,
    test_pairs=10,
    vocabulary=200,
    width=32,
    feed_forward=32,
    layers=1,
    heads=2,
    steps=4,
    warmup_steps=1,
    batch_tokens=200,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo")
    build_demo(directory, recipe=TINY)
    return directory


def load(directory: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    path = directory / "translation" / "model"
    return AutoTokenizer.from_pretrained(path), AutoModelForSeq2SeqLM.from_pretrained(path).eval()


def files(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_layout(demo: Path) -> None:
    assert [path.name for path in demo.iterdir()] == ["translation"]
    names = {path.name for path in (demo / "translation").iterdir() if path.is_dir()}
    assert names == {"model", IN_DOMAIN.name, *(domain.name for domain in OUT_OF_DOMAIN)}
    assert (demo / "translation" / "model" / "model.safetensors").is_file()


def test_transformers_loads_it_and_generates(demo: Path) -> None:
    tokenizer, model = load(demo)
    assert tokenizer.is_fast
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert model.config.model_type == "marian"
    inputs = tokenizer(["sul lowa.", "em lowa sul mena."], padding=True, return_tensors="pt")
    generated = model.generate(**inputs, max_new_tokens=8)
    assert generated.shape[0] == 2
    assert generated[0, 0] == tokenizer.pad_token_id
    assert all(isinstance(text, str) for text in tokenizer.batch_decode(generated))


def test_made_once(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(demo)
    build_demo(demo, recipe=TINY)
    assert "nothing to do" in capsys.readouterr().out
    assert files(demo) == before


def test_says_the_validation_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_demo(tmp_path, recipe=TINY)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"wrote {tmp_path / 'translation'}: validation loss in domain ")


def test_another_seed_is_another_demo(tmp_path: Path) -> None:
    corpus = tmp_path / "translation" / "village" / "train.jsonl"
    build_demo(tmp_path, seed=0, recipe=TINY)
    first = corpus.read_bytes()
    build_demo(tmp_path, seed=1, recipe=TINY)
    assert corpus.read_bytes() != first


def test_a_stop_while_training_does_not_look_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(translator, "train_translator", stop)
        with pytest.raises(KeyboardInterrupt):
            build_demo(tmp_path, recipe=TINY)
    assert not (tmp_path / "translation").exists()
    build_demo(tmp_path, recipe=TINY)
    assert (tmp_path / "translation" / "model").is_dir()


def test_digest_notices_every_ingredient() -> None:
    digests = {FULL.digest(0), FULL.digest(1), TINY.digest(0), Recipe(test_pairs=299).digest(0)}
    assert len(digests) == 4
    assert FULL.digest(0) == Recipe().digest(0)


def bleu(directory: Path, domain: str) -> float:
    """BLEU of the test set, greedy."""
    tokenizer, model = load(directory)
    lines = (directory / "translation" / domain / "test.jsonl").read_text().splitlines()
    pairs = sorted(map(json.loads, lines), key=lambda pair: len(pair["source"]))
    hypotheses: list[str] = []
    for batch in chunks(pairs, 100):
        inputs = tokenizer([pair["source"] for pair in batch], padding=True, return_tensors="pt")
        with torch.inference_mode():
            generated = model.generate(**inputs, max_new_tokens=100)
        hypotheses += tokenizer.batch_decode(generated, skip_special_tokens=True)
    return sacrebleu.corpus_bleu(hypotheses, [[pair["target"] for pair in pairs]]).score


def chunks(pairs: list[dict[str, str]], size: int) -> Iterator[list[dict[str, str]]]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


@pytest.mark.slow
def test_full_demo_learns_and_loses_out_of_domain(tmp_path: Path) -> None:
    build_demo(tmp_path)
    in_domain = bleu(tmp_path, IN_DOMAIN.name)
    assert in_domain > 60
    for domain in OUT_OF_DOMAIN:
        assert 5 < bleu(tmp_path, domain.name) < in_domain - 15
