"""Prior weights by layer and head in a report, where ``nvreg inspect`` has measured them for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from nvreg.document import Drawing
from nvreg.errors import UserError
from nvreg.parameters import ROLES
from nvreg.report.plot import joined, panels_of
from nvreg.report.points import Cloud
from nvreg.results import INSPECTION_PAGE, INSPECTION_TABLE, RunFiles
from nvreg.text import out_of_markdown


def heads_plots(cloud: Cloud) -> Iterator[Drawing]:
    """Yield the prior weights of every run in which they were measured.

    Raises:
        UserError: if a file is not as ``nvreg inspect`` writes it.
    """
    for name, run in cloud.runs:
        folder = RunFiles(run.directory).inspection
        if (folder / INSPECTION_TABLE).is_file() and (drawing := heads_plot(folder, name)):
            yield drawing


def heads_plot(folder: Path, run: str = "") -> Drawing | None:
    """Draw the prior weight of every layer and head, a panel a domain.

    Args:
        folder: what ``nvreg inspect --output`` wrote.
        run: the name of the run that it is of, on a page of several.

    Returns:
        The drawing; None where nothing is in the table.

    Raises:
        UserError: if the table is not as ``nvreg inspect`` writes it.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    table = _prior_weights(folder / INSPECTION_TABLE)
    if table.empty:
        return None
    table = table.assign(place=table["role"].map(ROLES.index)).sort_values(
        ["place", "layer", "head"], kind="stable"
    )
    sites = list(dict.fromkeys(zip(table["role"], table["layer"], strict=True)))
    heads, top = int(table["head"].max()) + 1, float(table["value"].max()) or 1.0
    cell = Markup(
        '<rect class="head dot" role="listitem" tabindex="-1" x="{:.2f}%" y="{:.2f}%" width="{:.2f}%" '
        'height="{:.2f}%" fill="{}" data-tip="{}" aria-label="{}"/>'
    )
    wide, high = 100 / heads, 100 / len(sites)
    panels = []
    for domain, rows in table.groupby("domain", sort=False):
        cells = []
        for role, layer, head, value in rows[["role", "layer", "head", "value"]].itertuples(index=False):
            tip, colour = (
                f"{role} {layer}, head {head}: {value:.4f}",
                to_hex(colormaps["cividis"](value / top)),
            )
            y = high * sites.index((role, layer))
            cells.append(cell.format(wide * head, y, wide, high, colour, tip, tip))
        names = joined(
            Markup('<text x="-.4em" y="{}%" dy=".3em" text-anchor="end">{} {}</text>').format(
                round(100 * (place + 0.5) / len(sites), 3), role, layer
            )
            for place, (role, layer) in enumerate(sites)
        )
        panels.append(
            Markup(
                '<figure class="plot heat"><svg role="list" data-marks aria-label="prior weight on {}" '
                'style="height:{}rem">{}{}<text x="50%" y="100%" dy="1.3em" text-anchor="middle">'
                "{}: head</text></svg></figure>"
            ).format(domain, 1.2 * len(sites), joined(cells), names, domain)
        )
    caption = f"From 0 (dark) to {top:.3f} (bright), as nvreg inspect measured it"
    if (said := folder / INSPECTION_PAGE).is_file():
        title = said.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        caption += f" in {out_of_markdown(title.removeprefix('# '))}"
    named = f"Prior weight by layer and head{f' of {run}' if run else ''}"
    return Drawing(panels_of(named, f"{caption}.", panels))


def _prior_weights(path: Path) -> pd.DataFrame:
    """Return the rows of a table of ``nvreg inspect`` that have prior weights, checked.

    Raises:
        UserError: if it is no such table.
    """
    try:
        table = pd.read_csv(path, dtype={"layer": int, "head": int, "value": float, "domain": str})
        table = table.loc[table["quantity"].eq("prior_weight"), ["domain", "role", "layer", "head", "value"]]
        if not (table["role"].isin(ROLES).all() and np.isfinite(table["value"]).all()):
            raise ValueError("other roles, or weights that are not finite")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: expected what nvreg inspect writes, got another table "
            f"({' '.join(str(error).split())}); inspect again, or delete it"
        ) from error
    return table
