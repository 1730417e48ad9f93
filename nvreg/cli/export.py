"""``nvreg export``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import (
    OPENED_BY,
    Private,
    Push,
    check_new_directory,
    check_push,
    names_in,
    push,
    say,
)

PLAIN = "it is a plain checkpoint, which Transformers opens as it is"
"""What opens the checkpoint of a method that changes weights, or none."""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Directory that nvreg sweep wrote.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A new directory.")]
Protocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        help="Selection protocol that chooses the setting.",
        autocompletion=names_in("nvreg.protocols:PROTOCOLS"),
    ),
]
Domain = Annotated[
    str | None, typer.Option("--domain", help="Test set that is chosen for, if the protocol asks.")
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Method whose settings are chosen from, of several.",
        autocompletion=names_in("nvreg.methods:METHODS"),
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the search, of several.")]


def export(
    run: Run,
    out: Out,
    protocol: Protocol,
    domain: Domain = None,
    method: Method = None,
    seed: Seed = None,
    push_to: Push = None,
    private: Private = False,
) -> None:
    """Save the model of a run, under the setting that a protocol chooses, as a checkpoint.

    A protocol that chooses for each domain by itself needs --domain; a run of several methods or seeds
    --method or --seed. For NV the checkpoint is what nvreg convert writes, for other methods a plain one,
    where a plain one can hold what they do. Its README.md, the model card of the hub, has what the run
    measured of it. --push needs a token of the hub: of HF_TOKEN, or of `hf auth login`.

    Example:
        nvreg export results/my-translator OUT --protocol in-domain-tolerance --method nv

        nvreg export results/my OUT --protocol in-domain-tolerance --method nv --push me/nv --private

        nvreg export results/my-translator OUT --protocol leave-one-domain-out --domain subtitles --method nv
    """
    check_new_directory(out, is_replaced=True)
    check_push(push_to, private)

    from nvreg.report.selection import choose_trial, setting_text

    choice = choose_trial(run, protocol, domain=domain, method=method, seed=seed)

    from nvreg.checkpoint import converted_directory
    from nvreg.export import save_chosen

    for line in choice.run.experiment.model.warnings:
        say(line, err=True)

    save_chosen(choice, out, push_to)
    trial = choice.trial
    found = f"chooses trial {trial.number}, {setting_text(trial, with_method=True)}"
    say(f"{protocol} {found if trial.number else 'keeps the pretrained model, unchanged'}; written to {out}")
    say(OPENED_BY if converted_directory(out) else PLAIN)
    push(out, push_to, private)
