"""What a setting does to every layer and head in several domains: from files to a table and a heat map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.attention.settings import Settings
from nvreg.checkpoint import converted_directory, from_pretrained
from nvreg.config import Reading, source_of
from nvreg.data.looking import SPLITS
from nvreg.diagnostics.by_head import measure_heads
from nvreg.document import csv, png
from nvreg.errors import UserError
from nvreg.estimation.calibration import calibrate
from nvreg.files import check_files, claim, write_bytes, write_text
from nvreg.inspection.presentation import heatmap, page
from nvreg.methods.nv import NVSetting
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import convert_, current_settings
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.models.registry import layers_by_role
from nvreg.prior.artefact import Prior
from nvreg.progress import Progress
from nvreg.results import INSPECTION_PAGE, INSPECTION_TABLE
from nvreg.tasks.sampling import CALIBRATION_TOKENS, batches_of_file

WRITTEN = TABLE, FIGURE, PAGE = INSPECTION_TABLE, "inspect.png", INSPECTION_PAGE
"""The files that are written: a row for each domain, site, head and quantity; a heat map; what is printed."""

NAMES: Sequence[Callable[[str], str]] = (
    lambda written: _of_split(_place(written)) or _stem(_place(written)),
    lambda written: _stem(_place(written)),
    lambda written: _place(written).parent.name,
    lambda written: str(_place(written)),
    str,
)
"""Ways to name the domain of a data set, the shortest first."""


def inspect_model(
    path: str,
    prior: Path | None,
    setting: NVSetting,
    prior_data: str | None,
    files: Sequence[str],
    column: str,
    target_column: str | None,
    reading: Reading,
    limit: int,
    output: Path | None,
    progress: Progress,
    *,
    force: bool = False,
) -> str:
    """Measure every head on files of text; a file is a domain.

    Args:
        path: the directory of a checkpoint or of a converted model, or a name on the hub.
        prior: the file of the checkpoint's prior; a converted model has its own, and its own settings.
        setting: the setting that the checkpoint is converted with.
        prior_data: in-domain training text, on which a prior weight is solved for, with the same columns.
        files: the texts, named by `domain_names` and read as in `nvreg.tasks.sampling`.
        column: the column of sources, of texts or of a tagger's words.
        target_column: the column of targets, for an encoder-decoder model alone.
        reading: the prefix and the languages.
        limit: how many examples of a file are read at most.
        output: the directory for ``inspect.csv`` (a row for each domain, site, head and quantity),
            ``inspect.png`` and ``inspect.md``, what is returned.
        progress: counts examples.
        force: the directory may hold files that nvreg did not write.

    Returns:
        Markdown, a table for each domain: a row a layer, means over heads.

    Raises:
        UserError: if the model, its prior or the text cannot be had, or do not fit each other, or the
            directory holds what nvreg did not write.
    """
    names = domain_names(files)
    if output is not None:
        check_files(output, WRITTEN, force=force)
    tokenizer = load_tokenizer(path)

    def read(
        model: PreTrainedModel, file: str, split: str, *, limit: int | None = None, tokens: int | None = None
    ) -> list[dict[str, Tensor]]:
        columns = column, target_column
        return batches_of_file(model, tokenizer, file, *columns, limit, tokens, reading, split)

    def settings_of(model: PreTrainedModel, prior: Prior) -> Settings:
        if prior_data is None:
            return Settings.from_dict(setting.to_dict())
        progress.phase("solving for tau_alpha")
        text = read(model, prior_data, "train", tokens=CALIBRATION_TOKENS)
        return calibrate(model, prior, text, **setting.to_dict())

    model = _load(path, prior, setting, settings_of)
    domains = {name: read(model, file, "test", limit=limit) for name, file in zip(names, files, strict=True)}
    progress.phase("measuring attention", sum(map(_examples, domains.values())))
    measured = {name: measure_heads(model, _counted(batches, progress)) for name, batches in domains.items()}
    for name, rows in measured.items():
        if (bad := rows[~np.isfinite(rows["value"])]).size:
            at = bad.iloc[0]
            raise UserError(
                f"{name}: expected a finite {at['quantity']}, got {at['value']} in the {at['role']}, layer "
                f"{at['layer']}; the model's weights or what it computes from the text are not finite"
            )
    heads = pd.concat(measured, names=["domain"]).reset_index("domain").reset_index(drop=True)
    conversion = conversion_of(model)
    converted = (
        f"with {current_settings(model)} (space: {conversion.space})" if conversion else "as pretrained"
    )
    counts = {name: _examples(batches) for name, batches in domains.items()}
    text = page(f"{path} {converted}", heads, counts)
    if output is not None:
        claim(output, WRITTEN, force=force)
        write_text(output / TABLE, csv(heads))
        write_bytes(output / FIGURE, png(heatmap(heads)))
        write_text(output / PAGE, text)
    return text


def domain_names(files: Sequence[str]) -> list[str]:
    """Name files without their endings; by their directories where those are alike; failing that by path.

    A file that is called like a split, as ``test.jsonl``, goes by its directory; a data set of the hub by the
    end of its name, with its configuration where it has one.

    Args:
        files: data sets, as `nvreg.config.source_of` reads them.

    Raises:
        UserError: if one is given twice, or is no data set.
    """
    for name in NAMES:
        names = [name(written) for written in files]
        if all(names) and len(set(names)) == len(names):
            return names
    raise UserError(f"expected every data file once, got {', '.join(files)}; leave one out")


def _place(written: str) -> PurePath:
    """Return what a data set is named after."""
    source = source_of(written, "test")
    if source.hub:
        return PurePath(f"{source.hub}-{source.config}" if source.config else source.hub)
    if written.startswith("{"):
        return PurePath(source.files or source.source_file or source.conll or "")
    return PurePath(written)  # absolute in the source, where it would depend on the working directory


def _stem(place: PurePath) -> str:
    return place.name.split(".")[0]


def _of_split(place: PurePath) -> str | None:
    """Return the directory's name of a file that is called like a split; None for others."""
    is_split = any(_stem(place).lower() in names for names in SPLITS.values())
    return place.parent.name if is_split else None


def _load(
    path: str,
    prior: Path | None,
    setting: NVSetting,
    settings_of: Callable[[PreTrainedModel, Prior], Settings],
) -> PreTrainedModel:
    if converted_directory(path):
        if prior is not None or not setting.is_identity:
            raise UserError(
                f"expected neither --prior nor settings with {path}, which is converted and has its own"
            )
        return from_pretrained(path)
    if prior is None and not setting.is_identity:
        raise UserError(f"expected --prior FILE with {setting}, got none; nvreg prior estimates one")
    model = load_model(path)
    if prior is not None:
        known = Prior.load(prior)
        try:
            setting.check(layers_by_role(model, known.space))
            convert_(model, known, settings_of(model, known))
        except ValueError as error:
            raise UserError(str(error)) from error
    return model


def _counted(batches: list[dict[str, Tensor]], progress: Progress) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        yield batch
        progress.step(_examples([batch]))


def _examples(batches: list[dict[str, Tensor]]) -> int:
    return sum(len(batch["input_ids"]) for batch in batches)
