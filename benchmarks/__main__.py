"""Print what NV attention costs, in ratios to the unconverted model under SDPA in the same process."""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch

import nvreg
from benchmarks.memory import peak_bytes
from benchmarks.shapes import SETTINGS, SHAPES, build
from benchmarks.timing import interleaved, ratio
from benchmarks.workloads import workloads_of
from nvreg.models.identity import identify

DTYPES = ["float32", "bfloat16"]


def main() -> None:
    """Run the benchmarks that the command line names and print markdown tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512, 1024, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; medians [quartiles] of", end=" ")
    print(f"{options.rounds} interleaved rounds; prefill: 2 rows, 64 target tokens for encoder-decoders\n")
    for dtype in options.dtypes:
        for name in options.models:
            time_shape(name, dtype, options.lengths, options.rounds)
        if "bart" in options.models:
            time_definition(dtype, options.rounds)


def time_shape(name: str, dtype: str, lengths: list[int], rounds: int) -> None:
    """Print one model's table, what conversion costs, and its peak memory."""
    plain = build(name, getattr(torch, dtype))
    converted = copy.deepcopy(plain)
    prior = nvreg.Prior(nvreg.Prior.gaussian(plain), model=identify(plain))
    print(f"### {name}, {plain.num_parameters() / 1e6:.0f} M parameters, {dtype}\n")
    print("| workload | unconverted, ms | " + " | ".join(SETTINGS) + " |")
    print("|---|---|" + "---|" * len(SETTINGS))

    started = time.perf_counter()
    nvreg.convert_(converted, prior)
    conversion = time.perf_counter() - started
    with torch.inference_mode():
        for workload, run in workloads_of(plain, lengths).items():
            calls = {"plain": lambda run=run: run(plain)}
            models = {}
            for setting, settings in SETTINGS.items():
                models[setting] = nvreg.set_settings_(copy.deepcopy(converted), settings)
                calls[setting] = lambda run=run, model=models[setting]: run(model)
            seconds = interleaved(calls, rounds)
            base = seconds["plain"]
            cells = [str(ratio(seconds[setting], base)) for setting in SETTINGS]
            print(
                f"| {workload} | {1000 * statistics.median(base):.0f} | " + " | ".join(cells) + " |",
                flush=True,
            )

    tau_sigmas = [0.1 + 0.01 * number for number in range(rounds)]
    changes = [_seconds_to_set(converted, tau_sigma) for tau_sigma in tau_sigmas]
    longest = f"prefill {max(lengths)}"
    peaks = [peak_bytes(name, dtype, longest, setting) for setting in (None, *SETTINGS)]
    change = statistics.median(changes)
    print(f"\nconversion {1000 * conversion:.0f} ms; changing settings {1000 * change:.0f} ms", end="")
    print(f" [{1000 * min(changes):.0f}, {1000 * max(changes):.0f}]; peak memory of {longest}:", end=" ")
    print(
        f"{peaks[0] / 1e6:.0f} MB, ratios",
        ", ".join(f"{peak / peaks[0]:.2f}" for peak in peaks[1:]),
        "\n",
        flush=True,
    )


def time_definition(dtype: str, rounds: int) -> None:
    """Print how long BART takes with the method computed as it is defined, the scale to compare with."""
    from tests.models.definition import run_definition_

    plain = build("bart", getattr(torch, dtype))
    prior = nvreg.Prior.gaussian(plain)
    defined = run_definition_(copy.deepcopy(plain), prior, SETTINGS["tau_sigma > 0"])
    run = workloads_of(plain, [512])["prefill 512"]
    with torch.inference_mode():
        seconds = interleaved({"plain": lambda: run(plain), "defined": lambda: run(defined)}, rounds)
    print(f"bart, {dtype}, prefill 512, the definition: {ratio(seconds['defined'], seconds['plain'])}")


def _seconds_to_set(model: torch.nn.Module, tau_sigma: float) -> float:
    settings = nvreg.Settings(tau_alpha=1.0, tau_sigma=tau_sigma, tau_mu=0.9)
    started = time.perf_counter()
    nvreg.set_settings_(model, settings)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
