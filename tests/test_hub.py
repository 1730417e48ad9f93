"""The hub: what is pushed comes back as it was, private or not, and what is refused is one line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import gettempdir

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

import nvreg
from nvreg.checkpoint import converted_directory
from nvreg.models.convert import current_settings
from tests.cli.running import run
from tests.fake_hub import READER, WRITER, Repo
from tests.tiny import tiny_model, word_tokenizer

pytestmark = pytest.mark.usefixtures("no_gradients")
SETTINGS = nvreg.Settings(tau_alpha=0.5, tau_sigma=0.2)
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(params=["inputs", "heads"])
def model(request):
    plain = tiny_model("language-modelling", 40).eval()
    prior = nvreg.estimate_prior(plain, [{"input_ids": IDS}], space=request.param)
    return nvreg.convert_(plain, prior, SETTINGS)


@pytest.fixture
def logged_in(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER)


@pytest.mark.parametrize("large", ["", ".safetensors"], ids=["regular files", "large files"])
def test_what_is_pushed_comes_back(hub, logged_in, model, large):
    hub.large = large
    address = nvreg.push_to_hub(model, "me/nv", tokenizer=word_tokenizer(), private=True)
    repo = hub.repos["me/nv"]
    assert repo.private
    assert address == f"{hub.endpoint}/me/nv/commit/{repo.branches['main']}"
    loaded = nvreg.from_pretrained("me/nv")
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    plain = AutoModelForCausalLM.from_pretrained("me/nv")
    assert not torch.allclose(plain(IDS).logits, model(IDS).logits, atol=1e-4)
    _, files = repo.files("main")
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "nvreg"
    assert 'nvreg.from_pretrained("me/nv")' in card.text
    assert {"tokenizer.json", "nvreg.json", "nvreg_prior.safetensors"} <= files.keys()


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_every_revision_is_itself(hub, logged_in, model):
    nvreg.push_to_hub(model, "nv")
    nvreg.set_settings_(model, nvreg.Settings(tau_sigma=0.7))
    nvreg.push_to_hub(model, "me/nv", revision="strong")
    strong, first = hub.repos["me/nv"].branches["strong"], hub.repos["me/nv"].branches["main"]
    assert torch.equal(nvreg.from_pretrained("me/nv", revision="strong")(IDS).logits, model(IDS).logits)
    assert torch.equal(nvreg.from_pretrained("me/nv", revision=strong)(IDS).logits, model(IDS).logits)
    for revision in (None, "main", first):
        assert not torch.equal(
            nvreg.from_pretrained("me/nv", revision=revision)(IDS).logits, model(IDS).logits
        )


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_what_was_fetched_once_needs_no_connection(hub, logged_in, model, monkeypatch):
    nvreg.push_to_hub(model, "me/nv")
    nvreg.from_pretrained("me/nv")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert torch.equal(nvreg.from_pretrained("me/nv")(IDS).logits, model(IDS).logits)
    assert len(hub.requests) == asked


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_a_token_is_sent_and_is_nowhere_else(hub, logged_in, model, tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    nvreg.push_to_hub(model, "me/nv", private=True)
    nvreg.from_pretrained("me/nv")
    assert {token for _, path, token in hub.requests if "me/nv" in path} == {WRITER}
    with pytest.raises(nvreg.UserError) as refused:
        nvreg.push_to_hub(model, "other/nv")
    printed = "".join(capfd.readouterr())
    for text in (str(refused.value), caplog.text, printed):
        assert WRITER not in text
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(WRITER.encode() in path.read_bytes() for path in written)
    assert not any(WRITER.encode() in content for content in hub.repos["me/nv"].files("main")[1].values())


@pytest.fixture
def pushed(hub, model, monkeypatch):
    """Repositories of a model: one that is private, and one that is gated."""
    monkeypatch.setenv("HF_TOKEN", WRITER)
    for name in ("me/private", "me/gated"):
        nvreg.push_to_hub(model, name, private=True)
    hub.repos["me/gated"].gated, hub.repos["me/gated"].private = True, False
    hub.repos["me/plain"] = Repo()
    hub.repos["me/plain"].commit("main", {"config.json": b'{"model_type": "gpt2"}'})
    monkeypatch.delenv("HF_TOKEN")


REFUSALS = {
    "me/none": "none, or none for this token (401); check the name, log in",
    "me/private": "none, or none for this token (401); check the name, log in",
    "me/gated": "a gated one (401); ask for access on its page, then log in",
    "me/plain": "which is another; convert it with `nvreg convert`",
    "me/no--name": "a name that no repository has",
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_what_cannot_be_fetched_is_one_line(pushed, name):
    with pytest.raises(nvreg.UserError) as refused:
        nvreg.from_pretrained(name)
    message = str(refused.value)
    assert REFUSALS[name] in message
    assert f"{name!r} on the Hugging Face hub" in message
    assert "\n" not in message
    assert name == "me/plain" or message.endswith("or give the path of a local directory")


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_who_may_read_reads_what_is_private(pushed, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READER)
    assert nvreg.sites(nvreg.from_pretrained("me/private"))
    with pytest.raises(nvreg.UserError, match=r"got no such revision \(404\); check the revision"):
        nvreg.from_pretrained("me/private", revision="none")
    with pytest.raises(nvreg.UserError, match=r"got a gated one \(403\)"):
        nvreg.from_pretrained("me/gated")


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_a_token_that_is_not_known_is_one_line(pushed, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "unknown1" * 4)
    with pytest.raises(nvreg.UserError, match=r"got no token, or one that is not known \(401\); log in"):
        nvreg.from_pretrained("me/private")


def test_no_connection_is_one_line(hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before it is tried again
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    with pytest.raises(nvreg.UserError, match=r"got no connection .*check the connection, or give the path"):
        nvreg.from_pretrained("me/nv")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(nvreg.UserError, match=r"HF_HUB_OFFLINE is set; unset it, or give the path"):
        nvreg.from_pretrained("me/nv")


def answering(status, body=b"", **headers):
    return lambda handler: handler._send(
        status, body, {name.replace("_", "-"): text for name, text in headers.items()}
    )


ANSWERS = {
    "a page of a proxy": (
        answering(200, b"<html>"),
        r"an answer that cannot be read \(.*; try again later, and",
    ),
    "a ring of addresses": (
        lambda handler: answering(302, Location=handler.path)(handler),
        r"an answer that cannot be read \(Exceeded .*; try again later, and see what answers there",
    ),
    "another encoding": (
        answering(200, b"{}", Content_Encoding="gzip"),
        r"an answer that cannot be read \(.*; try again later, and see what answers there",
    ),
    "too many requests": (answering(429), r"got status 429 \(.*; try again later, or"),
    "an error": (answering(500), r"got status 500 \(.*; try again later, or"),
    "nothing there": (answering(404), r"got status 404 \(.*; check the name, or"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_is_not_a_hub_s_is_not_blamed_on_the_connection(hub, logged_in, monkeypatch, answer):
    send, said = ANSWERS[answer]
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before it is tried again
    monkeypatch.setattr("tests.fake_hub._Handler._answer", send)
    for ask in (lambda: nvreg.from_pretrained("me/nv"), lambda: nvreg.push_to_hub("tests", "me/nv")):
        with pytest.raises(nvreg.UserError, match=said) as refused:
            ask()
        assert "check the connection" not in str(refused.value)
        assert "\n" not in str(refused.value)


PUSHES = {
    "nobody": (None, "me/nv", "got no token; log in with `hf auth login`, or set HF_TOKEN"),
    "a reader": (READER, "me/nv", "got a token that may not (403); log in"),
    "another's place": (WRITER, "other/nv", "got a token that may not (403); log in"),
    "an unknown token": (
        "hf_" + "unknown1" * 4,
        "me/nv",
        "got no token, or one that is not known (401); log in",
    ),
    "no name": (WRITER, "a b", "got a name that no repository has"),
}


@pytest.mark.parametrize("who", PUSHES)
@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_what_cannot_be_pushed_is_one_line(hub, model, monkeypatch, who):
    token, name, expected = PUSHES[who]
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(nvreg.UserError) as refused:
        nvreg.push_to_hub(model, name)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "path of a local directory" not in str(refused.value)
    assert gettempdir() not in str(refused.value)  # where the model was saved for the while
    assert name not in hub.repos


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_nothing_private_is_pushed_to_a_public_repository(hub, logged_in, model):
    nvreg.push_to_hub(model, "me/nv")
    before = hub.repos["me/nv"].files("main")
    with pytest.raises(
        nvreg.UserError, match=r"expected a private repository 'me/nv' .* got one that is there"
    ):
        nvreg.push_to_hub(model, "me/nv", private=True)
    assert hub.repos["me/nv"].files("main") == before


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_convert_pushes_what_it_writes(hub, logged_in, model, tmp_path):
    tiny_model("language-modelling", 40).save_pretrained(tmp_path / "plain")
    word_tokenizer().save_pretrained(tmp_path / "plain")
    nvreg.save_pretrained(model, tmp_path / "saved")
    prior = tmp_path / "saved/nvreg_prior.safetensors"
    options = ["--prior", prior, "--tau-sigma", "0.2", "--push", "me/nv", "--private"]
    result = run("convert", tmp_path / "plain", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert f"pushed to {hub.endpoint}/me/nv/commit/" in result.stdout
    _, files = hub.repos["me/nv"].files("main")
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert str(tmp_path) not in files["README.md"].decode()
    assert converted_directory("me/nv") is not None


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--push", "me/nv"], "got no token; log in"), (["--private"], "expected --push REPO with --private")],
)
def test_what_cannot_be_pushed_is_said_before_the_work(hub, tmp_path, options, expected):
    result = run("convert", tmp_path / "none", tmp_path / "out", "--prior", "none", *options)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_a_converted_model_of_the_hub_is_measured_regularised(hub, logged_in, model, tmp_path):
    nvreg.push_to_hub(model, "me/nv", tokenizer=word_tokenizer())
    (tmp_path / "text.jsonl").write_text('{"text": "a small cat sees a big dog ."}\n' * 3)
    hub.repos["datasets/org/texts"] = Repo()
    hub.repos["datasets/org/texts"].commit("main", {"test.jsonl": (tmp_path / "text.jsonl").read_bytes()})
    data = ["--data", tmp_path / "text.jsonl", "--data", "hf://datasets/org/texts/test.jsonl"]
    options = ["--task", "language-modelling", *data, "--set", "model.device=cpu"]
    result = run("evaluate", "me/nv", *options, "--output", "-")
    assert result.exit_code == 0, result.output
    result = json.loads(result.stdout)
    assert result["model"]["space"] == "inputs"
    assert result["model"]["settings"] == current_settings(model).to_dict()
    here, there = result["domains"]
    assert (here["name"], there["name"]) == ("text", "texts")
    assert there["data"] == "hf://datasets/org/texts/test.jsonl"
    assert there["fingerprint"] == here["fingerprint"]
    assert there["metrics"] == here["metrics"]


@pytest.fixture
def on_hub(hub, tmp_path):
    """A model of the hub as pretrained, with a card."""
    tiny_model("language-modelling", 40).save_pretrained(tmp_path / "plain")
    word_tokenizer().save_pretrained(tmp_path / "plain")
    files = {path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir()}
    card = b"---\nlicense: cc-by-4.0\nlanguage: en\n---\nA model.\n"
    hub.repos["org/plain"] = Repo()
    hub.repos["org/plain"].commit("main", files | {"README.md": card})


def test_a_card_names_base_and_text_of_the_hub_and_has_the_licence_of_the_base(hub, on_hub, tmp_path):
    hub.repos["datasets/org/texts"] = Repo()
    texts = b'{"text": "a small cat sees a big dog ."}\n' * 3
    hub.repos["datasets/org/texts"].commit("main", {"train.jsonl": texts})
    options = ["--prior-data", "hub:org/texts", "--column", "text", "--tau-sigma", "0.2"]
    result = run("convert", "org/plain", tmp_path / "OUT", *options)
    assert result.exit_code == 0, result.output
    found = ModelCard.load(tmp_path / "OUT/README.md").data
    assert (found.base_model, found.license, found.language) == ("org/plain", "cc-by-4.0", "en")
    assert found.datasets == ["org/texts"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["evaluate", "me/none", "--task", "language-modelling", "--data", "text.jsonl"],
            "none for this token (401)",
        ),
        (["inspect", "me/gated", "--data", "text.jsonl", "--column", "text"], "a gated one (401)"),
        (
            ["convert", "me/private", "OUT", "--prior-data", "text.jsonl", "--column", "text"],
            "this token (401)",
        ),
    ],
)
@pytest.mark.parametrize("model", ["inputs"], indirect=True)
def test_what_the_hub_refuses_a_command_is_one_line(pushed, tmp_path, monkeypatch, command, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jsonl").write_text('{"text": "a small cat ."}\n')
    result = run(*command)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()[-1:]
    assert said in line
    assert "or give the path of a local directory" in line


@pytest.mark.slow
def test_a_command_of_its_own_speaks_to_the_hub_of_the_environment(hub, on_hub, tmp_path):
    """As a user runs it: a token of the environment, in a process that knows nothing of these tests."""
    (tmp_path / "text.jsonl").write_text('{"text": "a small cat sees a big dog ."}\n' * 3)
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": WRITER}
    environment |= {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    arguments = ["convert", "org/plain", "OUT", "--prior-data", "text.jsonl", "--column", "text"]
    done = subprocess.run(
        [sys.executable, "-c", "from nvreg.cli import main; main()", *arguments, "--push", "me/nv"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"pushed to {hub.endpoint}/me/nv/commit/" in done.stdout
    assert "nvreg.json" in hub.repos["me/nv"].files("main")[1]
    assert WRITER not in done.stdout + done.stderr
    assert not any(WRITER.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
