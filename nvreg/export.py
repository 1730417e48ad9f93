"""The setting that a run chose, as a checkpoint whose card has what the run measured of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedModel

from nvreg.card import Measurement, Provenance, Scorecard, converted_card, plain_card, write_card
from nvreg.digests import fingerprint
from nvreg.errors import UserError
from nvreg.files import whole_directory
from nvreg.methods import METHODS
from nvreg.metrics.resampling import FEWEST, interval
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import current_settings
from nvreg.models.weight_files import WeightFiles
from nvreg.prior.artefact import Prior
from nvreg.protocols import PROTOCOLS
from nvreg.report.cells import Record, score_cell, with_decimals
from nvreg.report.contrasts import Row, pairs_table
from nvreg.report.selection import ChosenTrial, Pick, choose, pretrained, setting_text
from nvreg.results import PRETRAINED, RunFiles
from nvreg.rounding import with_interval
from nvreg.sweep.workbench import load_subject


def save_chosen(choice: ChosenTrial, out: Path, repo: str | None = None) -> None:
    """Set the model of a run to a trial's setting, and save it with its tokenizer and a card.

    Args:
        choice: the trial, of an NV method or one that changes weights, or the pretrained model's.
        out: the directory of the checkpoint. One of an NV method is as `nvreg.save_pretrained` writes it,
            another is plain.
        repo: its name on the hub, where it gets one.

    Raises:
        UserError: if the method has no form as a checkpoint, or model or prior are no longer the run's.
    """
    run, arm, trial, *_ = choice
    is_saved = METHODS[arm.method].is_saved
    if not is_saved and trial.method != PRETRAINED:
        saved = ", ".join(name for name, method in METHODS.items() if method.is_saved)
        raise UserError(
            f"expected a method that a checkpoint can hold ({saved}), got {arm.method}; "
            "its settings live in a running model alone"
        )
    model, tokenizer = load_subject(run.experiment.model, run.experiment.task)
    if fingerprint(model) != run.manifest["model"]:
        raise UserError(
            f"expected the model that {run.directory} was measured with, got another in "
            f"{run.experiment.model.path}; put it back, or sweep again"
        )
    weights = WeightFiles.of(run.experiment.model.path, run.experiment.model.revision)
    if is_saved:
        method = run.experiment.sweep.methods[arm.method].make()
        space = method.space
        files, prior = RunFiles(run.directory), None
        if space is not None:
            prior = Prior.load(files.prior_of(space), files.fingerprint_of_prior(space))
        method.attach_(model, prior, ())
        method.set_(model, method.setting_type.from_dict(trial.resolved or trial.settings))
    with whole_directory(out) as aside:
        if is_saved:
            method.save(model, aside, weights)
        else:
            weights.save(model, aside)
        tokenizer.save_pretrained(aside)
        write_card(aside, _card(choice, model, repo))


def _card(choice: ChosenTrial, model: PreTrainedModel, repo: str | None) -> str:
    experiment, trial = choice.run.experiment, choice.trial
    made = Provenance(experiment.model.path, repo, experiment.data.in_domain.train, _measured(choice))
    conversion = conversion_of(model)
    if conversion is not None and isinstance(conversion.prior, Prior):
        return converted_card(model, conversion.prior, current_settings(model), made)
    if trial.method == PRETRAINED:
        return plain_card(
            model, made, made.name, "The pretrained model, unchanged: no setting was chosen.", {}
        )
    facts = {"method": choice.arm.method, "setting": setting_text(trial)}
    summary = f"The weights are changed by the method `{choice.arm.method}` of `nvreg`, without training."
    return plain_card(model, made, f"{made.name}, {choice.arm.method}", summary, facts)


def _measured(choice: ChosenTrial) -> Scorecard:
    """Return what a run's test sets say of a trial, each beside the pretrained model."""
    run, number = choice.run, choice.trial.number
    chosen = choose(run, choice.arm, [choice.protocol])[choice.protocol]
    picks = {
        domain: pick
        if (pick := chosen.get(domain)) and pick.trials == (number,)
        else Pick(run, domain, (number,))
        for domain in run.domains
    }
    table = with_decimals(pairs_table(run.metrics, run.domains, [Row({}, [picks], [pretrained(run)])]))
    return Scorecard(
        run.experiment.task,
        [_measurement(choice, picks[record["domain"]], record) for record in table.to_dict("records")],
        list(_notes(choice)),
    )


def _measurement(choice: ChosenTrial, pick: Pick, record: Record) -> Measurement:
    run, domain, metric = choice.run, record["domain"], record["metric"]
    sources = {name: source for _, name, split, source in run.experiment.data.splits() if split == "test"}
    facts = {"pretrained": record["other"], "difference": record["difference"]}
    if len(pick.scored[0].statistics(metric)) >= FEWEST:
        facts |= dict(zip(("low", "high"), interval(pick.resampled(metric)), strict=True))
    for which in ("", "_reselected"):
        facts |= {f"difference_{end}{which}": record[f"{end}{which}"] for end in ("low", "high")}
    known = {name: float(value) for name, value in facts.items() if math.isfinite(value)}
    shown = str(score_cell(record))
    if choice.trial.method == PRETRAINED:
        shown = with_interval(float(record["score"]), known.get("low"), known.get("high"))
    return Measurement(domain, "test", metric, float(record["score"]), shown, known, sources[domain])


def _notes(choice: ChosenTrial) -> Iterator[str]:
    run, arm, trial, protocol, domain = choice
    for_domain = f" for {domain}" if PROTOCOLS[protocol].by_domain else ""
    chosen = "the pretrained model" if trial.method == PRETRAINED else f"trial {trial.number}"
    tried = len(run.sweeps[arm])
    yield f"Protocol {protocol} chose {chosen}{for_domain}, of {tried} settings of {arm.method}."
    if PROTOCOLS[protocol].is_upper_bound:
        yield "It chooses on the test set itself: what is measured there is an upper bound, and no result."
    if trial.method == PRETRAINED:
        yield "Brackets are 95 % intervals over examples."
        return
    yield (
        "Each cell is the pretrained model's score, then this one's, and their difference with its 95 % "
        "interval over examples: {in braces} the choice is repeated on every resample, [in brackets] it is "
        "taken as given."
    )
