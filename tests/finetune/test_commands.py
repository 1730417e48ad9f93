import json

from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration
from typer.testing import CliRunner

from nvreg.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_finetune_writes_a_checkpoint_a_seed_and_says_where(workshop, tmp_path):
    out = tmp_path / "tuned"
    arguments = ["finetune", "--config", workshop / "bert.yaml", "--output", out]
    result = run(*arguments, "--set", "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(out / "seed-1")]
    assert "seed 1, epoch 1 of 1: accuracy 0." in result.stderr
    assert "training in float32, as asked for" in result.stderr
    assert (out / "seed-1" / "model.safetensors").exists()
    again = run(*arguments, "--set", "training.epochs=1")
    assert "seed 1: finished before" in again.stderr
    quiet = run(*arguments, "--set", "training.epochs=1", "--quiet")
    assert quiet.stderr == ""


def test_a_users_mistake_is_one_line_and_exit_code_2(workshop, tmp_path):
    result = run("finetune", "--config", workshop / "bert.yaml", "--set", "method=mixout")
    assert result.exit_code == 2
    assert "mixout" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    columns = ("--data", workshop / "train.jsonl", "--column", "en", "--target-column", "de")
    for out, more in (
        (tmp_path, ()),
        (tmp_path / "missing/f.json", ()),
        (tmp_path / "f", ("--label-column", "x")),
    ):
        result = run("fisher", workshop / "bart", out, *columns, *more)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1


def test_fisher_reads_with_a_prefix_and_languages(workshop, tmp_path):
    config = MBartConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
    )
    tokenizer = MBart50Tokenizer(
        vocab=[(word, -1.0) for word in ("<s>", "<pad>", "</s>", "<unk>", "▁a", "▁")]
    )
    model = MBartForConditionalGeneration(config)
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "mbart")
    text = ("--data", workshop / "train.jsonl", "--column", "en", "--limit", 2, "--quiet")

    def fisher(*options):
        return run("fisher", tmp_path / "mbart", tmp_path / "fisher.json", *text, *options)

    def scores(*options):
        result = fisher("--target-column", "de", "--source-language", "en_XX", *options)
        assert result.exit_code == 0, result.output
        return json.loads((tmp_path / "fisher.json").read_text())

    refused = fisher("--target-column", "de")
    assert refused.exit_code == 2
    assert "--target-language" in refused.stderr
    assert "only with --target-column" in fisher("--source-prefix", "a ").stderr
    german = scores("--target-language", "de_DE")
    for other in (("--target-language", "fr_XX"), ("--target-language", "de_DE", "--source-prefix", "a a ")):
        assert scores(*other)["scores"] != german["scores"]
        assert scores(*other)["data"] != german["data"]


def test_fisher_writes_scores_that_guided_dropout_takes(workshop, tmp_path):
    out = tmp_path / "fisher.json"
    columns = ("--data", workshop / "train.jsonl", "--column", "en", "--target-column", "de")
    result = run("fisher", workshop / "bart", out, *columns, "--limit", 3, "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"seq2seq scores of 19 dropout sites of {workshop / 'bart'} written to {out}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["fisher.json"]
    document = json.loads(out.read_text())
    assert document["sequences"] == 3
    arguments = ["method=guided-dropout", f"regulariser.fisher={out}", "training.epochs=1"]
    options = [option for argument in arguments for option in ("--set", argument)]
    result = run("finetune", "--config", workshop / "bart.yaml", "--output", tmp_path / "tuned", *options)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "tuned/seed-1/training.json").read_text())
    assert record["regulariser"]["fisher"] == "fisher.json"
    for written in (tmp_path / "tuned/seed-1").glob(
        "*[nd]"
    ):  # json and md, which are pushed with the weights
        assert str(tmp_path) not in written.read_text(), written
    (tmp_path / "tuned/manifest.json").unlink()
    again = run("finetune", "--config", workshop / "bart.yaml", "--output", tmp_path / "tuned", *options)
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "tuned/seed-1/training.json").read_text()) == record
    rates = record["applied"]["rates"]
    ranked = sorted(document["scores"], key=document["scores"].get)
    assert sorted(rates, key=rates.get, reverse=True) == ranked
