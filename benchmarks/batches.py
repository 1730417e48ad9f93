"""How far the size of batches moves a score, by dtype: python -m benchmarks.batches EXPERIMENT...

Every test set of an experiment file is scored with batches of `BUDGETS` padded tokens each, as pretrained and
under NV. Printed is the largest change of a metric relative to its value at the default size, over test sets
and sizes, and how many of the generated texts are others.
"""

import argparse
import itertools

import torch
from transformers.utils import logging

import nvreg
from benchmarks.hardware import describe
from benchmarks.shapes import with_the_weights_of
from nvreg.config import Evaluation
from nvreg.experiment import Experiment, load_experiment
from nvreg.metrics import METRICS, score
from nvreg.models.loading import load_tokenizer
from nvreg.sweep.workbench import Workbench, open_workbench
from nvreg.tasks import make_task
from nvreg.tasks.base import BATCH_TOKENS
from nvreg.tasks.sampling import random_batches

BUDGETS = (1, 256, 8192)
"""Padded tokens of a batch, 1 for an example a batch; compared with `BATCH_TOKENS`."""

DTYPES = ("float32", "bfloat16", "float16")
PRIOR_WEIGHT = 0.1


def main() -> None:
    """Print a table of the experiments that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--limit", type=int, default=100, help="examples of each test set")
    options = parser.parse_args()
    logging.set_verbosity_error()
    print(f"{describe('cpu')}; {options.limit} examples of each test set\n")
    print("| experiment | dtype | model | largest relative change | other texts |")
    print("|---|---|---|---|---|")
    for path, dtype in itertools.product(options.experiments, options.dtypes):
        workbench = open_workbench(load_experiment(path, _overrides(path, dtype, options.limit)))
        for name, model in _models(workbench).items():
            print(
                f"| {workbench.experiment.name} | {dtype} | {name} | {_row(workbench, model)} |", flush=True
            )


def _overrides(path: str, dtype: str, limit: int) -> list[str]:
    domains = len(load_experiment(path).data.out_of_domain)
    places = ["in_domain", *(f"out_of_domain.{number}" for number in range(domains))]
    limits = [f"data.{place}.test.limit={limit}" for place in places]
    return [f"model.dtype={dtype}", "model.device=cpu", *limits]


def _models(workbench: Workbench) -> dict[str, torch.nn.Module]:
    """The pretrained model, and a copy at the same prior weight everywhere."""
    sample = random_batches(workbench.task, workbench.in_domain_validation.examples)
    converted = with_the_weights_of(workbench.model)
    prior = nvreg.estimate_prior(converted, sample)
    settings = nvreg.calibrate(converted, prior, sample, prior_weight=PRIOR_WEIGHT, tau_sigma=0.5)
    return {"pretrained": workbench.model, "NV": nvreg.convert_(converted, prior, settings)}


def _row(workbench: Workbench, model: torch.nn.Module) -> str:
    usual, texts = _scores(workbench, model, BATCH_TOKENS)
    change, other = dict.fromkeys((name for _, name in usual), 0.0), 0
    for budget in BUDGETS:
        scores, generated = _scores(workbench, model, budget)
        other = max(other, sum(ours != theirs for ours, theirs in zip(generated, texts, strict=True)))
        for (domain, name), value in usual.items():
            moved = abs(scores[domain, name] - value) / abs(value) if value else 0.0
            change[name] = max(change[name], moved)
    cells = ", ".join(f"{name} {change[name]:.1e}" for name in change)
    return f"{cells} | {f'{other} of {len(texts)}' if texts else '-'}"


def _scores(
    workbench: Workbench, model: torch.nn.Module, budget: int
) -> tuple[dict[tuple[str, str], float], list[str]]:
    experiment: Experiment = workbench.experiment
    evaluation: Evaluation = experiment.evaluation.model_copy(update={"batch_tokens": budget})
    tokenizer = load_tokenizer(experiment.model.path)
    task = make_task(experiment.task, tokenizer, model.config, data=experiment.data, evaluation=evaluation)
    scores, texts = {}, []
    for domain, splits in workbench.scored.items():
        frame = task.score(model, splits["test"].encoded)
        made = [name for name in evaluation.metrics if METRICS[name].group in frame]  # overlap is not
        scores |= {(domain, name): score(frame, name) for name in made}
        if task.generates:
            texts += list(frame["prediction"])
    return scores, texts


if __name__ == "__main__":
    main()
