from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nvreg.errors import UserError
from nvreg.experiment import Experiment, load_experiment

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
EXPERIMENT = """
name: example
task: translation
model: {path: ../model}
data:
  columns: {source: en, target: de}
  in_domain:
    name: home
    train:      {files: home/train.jsonl, limit: 10, seed: 0}
    validation: {files: home/validation.jsonl}
    test:       {source_file: home/test.en, target_file: home/test.de}
  out_of_domain:
    - name: away
      test: {hub: some/name, config: en-de, split: test}
sweep:
  sampler: random
  trials: 3
  space:
    tau_alpha: {encoder: [-2, 5], cross: inf}
    tau_sigma: {decoder: {each_layer: [0, 0.2]}, encoder: {values: [0, 0.1]}}
    tau_mu: {encoder: {layers: [1, 0.5]}}
evaluation: {metrics: [perplexity, bleu]}
selection: {metric: bleu, protocols: [in-domain, oracle]}
output: results/example
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "experiments" / "example.yaml"
    path.parent.mkdir()
    path.write_text(EXPERIMENT)
    return path


def test_input_paths_are_relative_to_the_file_and_output_is_not(path, monkeypatch):
    monkeypatch.chdir("/")
    experiment = load_experiment(path)
    assert experiment.model.path == str(path.parents[1] / "model")
    assert experiment.data.in_domain.train.files == str(path.parent / "home/train.jsonl")
    assert experiment.data.in_domain.test.target_file == str(path.parent / "home/test.de")
    assert experiment.data.out_of_domain[0].test.hub == "some/name"
    assert experiment.output == "results/example"


@pytest.mark.parametrize("exists", [True, False])
def test_a_bare_model_path_is_the_hub_s_unless_it_exists_beside_the_file(path, exists):
    local = path.parent / "organisation" / "model"
    if exists:
        local.mkdir(parents=True)
    model = load_experiment(path, ["model.path=organisation/model"]).model
    assert model.path == (str(local) if exists else "organisation/model")


def test_the_resolved_experiment_reads_as_the_same(path, tmp_path):
    experiment = load_experiment(path)
    resolved = tmp_path / "elsewhere.yaml"
    resolved.write_text(yaml.safe_dump(experiment.model_dump()))
    assert load_experiment(resolved) == experiment


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*/*.yaml")), ids=lambda path: path.name)
def test_every_experiment_of_ours_is_accepted(path):
    load_experiment(path)


def test_the_real_translation_experiment_is_accepted(shared):
    experiment = load_experiment(shared / "experiments" / "translation.yaml")
    assert Path(experiment.data.in_domain.train.files).is_file()
    assert Path(experiment.model.path).is_dir()


def test_overrides_are_yaml_values_at_dotted_paths(path):
    experiment = load_experiment(
        path,
        [
            "sweep.trials=7",
            "data.out_of_domain.0.test.limit=5",
            "data.out_of_domain.0.validation={files: v.jsonl}",
            "evaluation.generation.num_beams=2",
            "sweep.space.tau_sigma={encoder: [0, 0.5]}",
        ],
    )
    assert experiment.sweep.trials == 7
    assert experiment.data.out_of_domain[0].test.limit == 5
    assert experiment.data.out_of_domain[0].validation.files == str(path.parent / "v.jsonl")
    assert experiment.evaluation.generation.num_beams == 2
    assert experiment.sweep.methods["nv"].space["tau_sigma"] == {"encoder": [0, 0.5]}


def test_one_method_and_seed_are_short_for_methods_and_seeds(path):
    short = load_experiment(path, ["sweep.seed=5", "sweep.enqueue=[{tau_sigma: 0.1}]"]).sweep
    long = load_experiment(
        path,
        [
            "sweep={sampler: random, trials: 3, seeds: [5], methods: {nv: {enqueue: [{tau_sigma: 0.1}], "
            "space: {tau_alpha: {encoder: [-2, 5], cross: inf}, tau_mu: {encoder: {layers: [1, 0.5]}}, "
            "tau_sigma: {decoder: {each_layer: [0, 0.2]}, encoder: {values: [0, 0.1]}}}}}}"
        ],
    ).sweep
    assert short == long
    assert short.methods["nv"].parameters == {"tau_alpha", "tau_sigma", "tau_mu"}


MISTAKES = {
    "sweep.trails=3": "sweep.trails: unknown key, did you mean 'trials'?",
    "data.out_of_domain.0.test.fils=x": "data.out_of_domain.0.test.fils: unknown key, did you mean 'files'?",
    "sweep.space.tau_gamma.encoder=1": "sweep.space: expected one of prior_weight, tau_alpha,",
    "sweep.racing={afte: 100}": "sweep.racing.afte: unknown key, did you mean 'after'?",
    "sweep.method=dropout": "sweep.method: expected one of nv, ",
    "sweep.method=[nv]": "sweep.method: expected one of nv, ",
    "sweep={methods: {3: {space: {}}}, sampler: grid}": "sweep.methods: expected one of nv, ",
    "sweep={methods: {wise-ft: {space: {mix: 1}}}, sampler: grid}": "methods.wise-ft.pretrained: expected a",
    "sweep.methods={}": "sweep: expected methods or space, got both",
    "sweep.seeds=[1, 2, 1]": "sweep.seeds: expected different seeds, got [1, 2, 1]",
    "sweep.pretrained=elsewhere": "sweep.pretrained: unknown key; known keys: space, enqueue",
    "sweep.space.tau_alpha.head=1": "sweep.space.tau_alpha: expected one of encoder, cross, decoder",
    "sweep.space.prior_weight.cross=[0.5, 1]": "prior_weight.cross: expected a number from 0 to below 1",
    "sweep.enqueue=[{tau_alpha: 1, prior_weight: 0.1}]": "enqueue.0: expected prior_weight or tau_alpha",
    "evaluation={metrics: [perplexity], window: 10, stride: 20}": "stride: expected at most the window",
    "task=summarization": "task: expected one of translation, summarisation, language-modelling, ",
    "sweep.sampler=bayes": "sweep.sampler: expected one of grid, random, tpe, one-at-a-time, got 'bayes'",
    "sweep.trials=many": "sweep.trials: expected a whole number, got 'many'",
    "sweep.trials=0": "sweep.trials: expected a number greater than 0, got 0",
    "sweep.trials=null": "expected trials, the number of settings",
    "sweep.sampler=grid": "space.tau_alpha.encoder: expected {values: [...]} or a fixed value",
    "sweep.space={}": "sweep.space: expected at least one dimension, got none",
    "sweep.space.tau_sigma.cross=-0.1": "cross: expected a number from 0 to 1e15, got -0.1",
    "sweep.space.tau_mu.cross=[0, 2]": "cross: expected a number from 0 to 1, got 2",
    "sweep.space.tau_alpha.cross=.nan": "cross: expected a number from -1e30 to 1e30, or inf, got nan",
    "sweep.space.tau_alpha.cross=[0, inf]": "expected a range [low, high] of finite numbers",
    "sweep.space.tau_alpha.cross=[5, 0]": "expected a range [low, high] of finite numbers with low < high",
    "sweep.space.tau_alpha.cross={one_of: [1]}": "cross: expected [low, high], {values: [...]}",
    "sweep.enqueue=[{tau_sigma: {encoder: -1}}]": "expected a number from 0 to 1e15",
    "evaluation.batch_tokens=big": "batch_tokens: expected a whole number or 'auto', got 'big'",
    "evaluation.temperatures=[0]": "temperatures.0: expected a number greater than 0, got 0",
    "evaluation.temperatures=[1.1, 1.1]": "temperatures: expected different finite numbers above 0",
    "evaluation.temperatures=[.inf]": "temperatures: expected different finite numbers above 0",
    "evaluation.metrics=[]": "evaluation.metrics: expected at least one item, got []",
    "selection.metric=chrf": "(perplexity, bleu), got 'chrf'",
    "evaluation.metrics=[perplexity, bleus]": "evaluation.metrics.1: expected one of nll, perplexity,",
    "data.in_domain.validation={}": "data.in_domain.validation: expected files, source_file with",
    "data.in_domain.test.target_file=null": "expected files, source_file with target_file, conll, or hub",
    "data.in_domain.validation.split=test": "expected split only with hub, or with a directory that",
    "data.in_domain.validation.tag_column=1": "expected token_column and tag_column only with conll",
    "data.in_domain.validation.conll=a.conll": "with target_file, conll, or hub; got conll, ",
    "data.in_domain.validation.seed=3": "expected a limit with the seed",
    "data.in_domain.train=null": "expected data.in_domain.train, which the empirical prior",
    "data.out_of_domain.0.name=home": "expected domains of different names, got home, home",
    "data.out_of_domain.0.name=a/b": "data.out_of_domain.0.name: expected",
    "data.columns={sorce: en, target: de}": "data.columns: expected some of source, target with task "
    "translation, got 'sorce', did you mean 'source'?",
    "data.out_of_domain.0.test.columns={text: en}": "data.out_of_domain.0.test.columns: expected some of",
    "data.in_domain.train.columns={Source: en}": "data.in_domain.train.columns: expected some of source",
    "prior={kind: gaussian, max_tokens: 5}": "prior: expected max_tokens only with kind: empirical",
    "prior={kind: gaussian, path: p}": "prior: expected kind or path, got both",
    "sweep.seed=-1": "sweep.seed: expected a number greater than or equal to 0, got -1",
    "sweep.seed=x": "sweep.seed: expected a whole number, got 'x'",
    "data.in_domain.test.limit=9e99": "data.in_domain.test.limit: expected a whole number, got 9e+99",
    f"data.in_domain.test.limit={10**30}": "expected a number less than or equal to",
    f"sweep.trials={10**30}": "sweep.trials: expected a number less than or equal to",
    "sweep.racing.after=1.5": "sweep.racing.after: expected a whole number, got 1.5",
    "name=": "name: expected text, got nothing",
    "sweep.space.tau_sigma.cross=": "{layers: [...]} or {each_layer: [low, high]}, got nothing",
    "sweep.enqueue=[{tau_mu: {cross: null}}]": "sweep.enqueue.0.tau_mu: expected a number from 0 to 1, got "
    "nothing",
    "data.out_of_domain.-1.name=x": "expected a position from 0 to 0 in the list, got '-1'",
    "data.out_of_domain.last.name=x": "expected a position from 0 to 0 in the list, got 'last'",
    "model=null": "model: expected keys with values, got nothing",
    "sweep": "--set: expected a.b=value, got 'sweep'",
    "data.out_of_domain.3.name=x": "--set: expected keys of the experiment and a YAML value",
    "name=a: b: c": "--set: expected keys of the experiment and a YAML value",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key(path, override):
    with pytest.raises(UserError) as caught:
        load_experiment(path, [override])
    assert MISTAKES[override] in str(caught.value)
    assert "\n" not in str(caught.value)


MISSPELT = {
    "sweep.space.tau_sigm=1": "sweep.space: expected one of prior_weight, tau_alpha, tau_sigma, tau_mu, "
    "noise_share, got 'tau_sigm', did you mean 'tau_sigma'?",
    "sweep.space.tau_sigma.encodr=1": "sweep.space.tau_sigma: expected one of encoder, cross, decoder, got "
    "'encodr', did you mean 'encoder'?",
    "sweep.enqueue=[{}, {tau_sigm: 1}]": "sweep.enqueue.1: expected one of prior_weight, tau_alpha, "
    "tau_sigma, tau_mu, noise_share, got 'tau_sigm', did you mean 'tau_sigma'?",
    "sweep.enqueue=[{tau_sigma: {crss: 1}}]": "sweep.enqueue.0.tau_sigma: expected one of encoder, cross, "
    "decoder, got 'crss', did you mean 'cross'?",
    "prior.kind=emprical": "prior.kind: expected 'empirical' or 'gaussian', got 'emprical', did you mean "
    "'empirical'?",
    "model.dtype=float23": ", got 'float23', did you mean 'float32'?",
    "evaluation.bleu_tokenize=no": ", got 'no', did you mean 'none'?",
    "evaluation.bleu_tokenize=chars": ", got 'chars', did you mean 'char'?",
    "evaluation.rouge_tokenize=word": ", got 'word', did you mean 'words'?",
    "evaluation.batch_tokens=atuo": ", got 'atuo', did you mean 'auto'?",
    "sweep.sampler=rndom": ", got 'rndom', did you mean 'random'?",
    "selection.protocols=[in-domian]": ", got 'in-domian', did you mean 'in-domain'?",
    "sweep.method=sinks": ", got 'sinks', did you mean 'sink'?",
}


@pytest.mark.parametrize("override", MISSPELT)
def test_a_misspelt_name_is_answered_with_the_nearest(path, override):
    with pytest.raises(UserError) as caught:
        load_experiment(path, [override])
    assert str(caught.value).endswith(MISSPELT[override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys and values of an experiment"),
        ("- 1", "expected keys and values of an experiment"),
        ("a: [", "expected YAML"),
        ("task: translation", "name: expected a value, the key is missing (and "),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(path, text, message):
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_experiment(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_binary_one_are_refused(path):
    with pytest.raises(UserError, match="No such file"):
        load_experiment(path.with_name("missing.yaml"))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8 text"):
        load_experiment(path)


@pytest.mark.parametrize("metric", ["accuracy", "macro-f1"])
def test_racing_takes_metrics_of_examples_and_of_the_whole_set(path, metric):
    changes = ["task=classification", "data.columns={}", "sweep.racing.after=9"]
    changes.append("evaluation.metrics=[accuracy, macro-f1]")
    assert load_experiment(path, [*changes, f"selection.metric={metric}"]).sweep.racing.after == 9


def test_a_saved_prior_needs_no_training_text(path):
    experiment = load_experiment(path, ["prior={path: p.safetensors}", "data.in_domain.train=null"])
    assert experiment.prior.path == str(path.parent / "p.safetensors")
    assert experiment.prior.kind is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        "name",
        "model",
        "data.columns",
        "data.in_domain.test",
        "data.out_of_domain",
        "prior",
        "sweep",
        "sweep.space",
        "sweep.space.tau_alpha",
        "sweep.space.tau_sigma.encoder",
        "sweep.enqueue",
        "evaluation",
        "selection.protocols",
    ]
)


@given(keys, json_values)
def test_no_value_anywhere_gives_anything_but_an_experiment_or_a_user_error(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(EXPERIMENT)
    override = f"{key}={yaml.safe_dump(value, default_flow_style=True)}"
    try:
        outcome = load_experiment(path, [override])
    except UserError as error:
        outcome = error
    assert isinstance(outcome, Experiment) or "\n" not in str(outcome)
