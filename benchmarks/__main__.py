"""Print what NV attention costs, in ratios to the unconverted model under SDPA in the same process."""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from transformers.utils import logging

import nvreg
from benchmarks.hardware import describe
from benchmarks.memory import peaks
from benchmarks.shapes import METHODS, ON_CPU, SETTINGS, SHAPES, build, prior_of, with_the_weights_of
from benchmarks.timing import interleaved, ratio
from benchmarks.workloads import COMPILED, KINDS, workloads_of

DTYPES = ["float32", "bfloat16"]

_ON_CPU = {
    "models": ON_CPU,
    "dtypes": DTYPES,
    "workloads": KINDS,
    "lengths": [128, 512, 1024, 2048],
    "rows": [2],
    "new_tokens": 64,
}
_ON_GPU = {
    "models": [*ON_CPU, "llama-1b"],
    "dtypes": ["bfloat16"],
    "workloads": [*KINDS, COMPILED],
    "lengths": [512, 2048, 8192],
    "rows": [1, 8],
    "new_tokens": 128,
}
"""What is timed where the command line does not say."""


def main() -> None:
    """Run the benchmarks that the command line names and print markdown tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SHAPES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES)
    parser.add_argument("--workloads", nargs="+", choices=[*KINDS, COMPILED])
    parser.add_argument("--lengths", nargs="+", type=int)
    parser.add_argument("--rows", nargs="+", type=int, help="texts of a prefill, and of decoding")
    parser.add_argument("--new-tokens", type=int, help="tokens that are decoded")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: expected 2 at least, of which there are quartiles")
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device: expected cpu where PyTorch finds no GPU of CUDA's, got {options.device}")
    for name, value in (_ON_CPU if options.device == "cpu" else _ON_GPU).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    logging.set_verbosity_error()
    torch._dynamo.config.recompile_limit = 256  # a graph for every model, and for every shape

    print(f"{describe(options.device)}; medians [quartiles] of {options.rounds} interleaved rounds;", end=" ")
    print(f"prefill: {' and '.join(map(str, options.rows))} rows, 64 target tokens for encoder-decoders\n")
    for dtype in options.dtypes:
        for name in options.models:
            time_shape(name, dtype, options)
        if "bart" in options.models and "prefill" in options.workloads:
            time_definition(dtype, options)


def time_shape(name: str, dtype: str, options: argparse.Namespace) -> None:
    """Print one model's table, what conversion costs, and its peak memory."""
    plain = build(name, getattr(torch, dtype), options.device)
    forms = {f"{method}, {words}": (method, words) for method in options.methods for words in SETTINGS}
    priors = {method: prior_of(plain, method) for method in options.methods}
    print(f"### {name}, {plain.num_parameters() / 1e6:.0f} M parameters, {dtype}\n")
    print("| workload | unconverted, ms | " + " | ".join(forms) + " |")
    print("|---|---|" + "---|" * len(forms))
    models = {
        form: nvreg.convert_(with_the_weights_of(plain), priors[method], SETTINGS[words])
        for form, (method, words) in forms.items()
    }
    with torch.inference_mode():
        chosen = workloads_of(
            plain, options.lengths, options.workloads, rows=options.rows, new_tokens=options.new_tokens
        )
        for workload, run in chosen.items():
            calls = {"plain": lambda run=run: run(plain)}
            calls |= {name: lambda run=run, model=model: run(model) for name, model in models.items()}
            seconds = interleaved(calls, options.rounds)
            base = seconds["plain"]
            cells = [str(ratio(seconds[form], base)) for form in forms]
            print(
                f"| {workload} | {1000 * statistics.median(base):.0f} | " + " | ".join(cells) + " |",
                flush=True,
            )

    print()
    for method, prior in priors.items():
        converted = with_the_weights_of(plain)
        started = time.perf_counter()
        nvreg.convert_(converted, prior)
        conversion = time.perf_counter() - started
        changes = [1000 * _seconds_to_set(converted, 0.1 + 0.01 * number) for number in range(options.rounds)]
        print(f"{method}: conversion {1000 * conversion:.0f} ms;", end=" ")
        print(f"another setting {statistics.median(changes):.0f} ms", end=" ")
        print(f"[{min(changes):.0f}, {max(changes):.0f}]", flush=True)
    if "prefill" in options.workloads:
        longest = f"prefill {max(options.lengths)}"
        base, *others = (
            peaks(name, dtype, options.device, longest, *form, options.rounds)
            for form in (("", ""), *forms.values())
        )
        print(f"peak memory of {longest}: {statistics.median(base) / 1e6:.0f} MB, ratios", end=" ")
        print(", ".join(str(ratio(other, base)) for other in others), flush=True)
    print()


def time_definition(dtype: str, options: argparse.Namespace) -> None:
    """Print how long BART takes with the method computed as it is defined, the scale to compare with."""
    from tests.models.definition import run_definition_

    plain = build("bart", getattr(torch, dtype), options.device)
    prior = nvreg.Prior.gaussian(plain)
    defined = run_definition_(with_the_weights_of(plain), prior, SETTINGS["tau_sigma > 0"])
    run = workloads_of(plain, [512])["prefill 512"]
    with torch.inference_mode():
        seconds = interleaved({"plain": lambda: run(plain), "defined": lambda: run(defined)}, options.rounds)
    print(
        f"bart, {dtype}, prefill 512, the definition: {1000 * statistics.median(seconds['defined']):.0f} ms,"
    )
    print(f"{ratio(seconds['defined'], seconds['plain'])} times the unconverted model\n", flush=True)


def _seconds_to_set(model: torch.nn.Module, tau_sigma: float) -> float:
    settings = nvreg.Settings(tau_alpha=1.0, tau_sigma=tau_sigma, tau_mu=0.9)
    started = time.perf_counter()
    nvreg.set_settings_(model, settings)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
