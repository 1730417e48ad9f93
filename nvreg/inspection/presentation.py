"""The measurements of heads as a page of markdown and as a heat map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from nvreg.diagnostics.by_head import QUANTITIES
from nvreg.document import Block, Table, markdown
from nvreg.parameters import ROLES
from nvreg.text import in_figure, in_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "prior_weight": "prior weight",
    "discarded_share": "discarded share",
    "entropy": "entropy (nats)",
    "divergence": "divergence (nats)",
}
"""Words for the quantities of `nvreg.diagnostics.by_head`."""


def page(title: str, heads: pd.DataFrame, examples: Mapping[str, int]) -> str:
    """Return a table for each domain: a row a layer, means over heads.

    Args:
        title: what was measured.
        heads: the rows of `nvreg.diagnostics.measure_heads`, with a column ``domain``.
        examples: how many each domain has.
    """
    blocks: list[Block] = [
        f"# {in_markdown(title)}",
        "Means over heads and real tokens; entropy and divergence in nats.",
    ]
    header = ["role", "layer", *(quantity.replace("_", " ") for quantity in QUANTITIES)]
    for domain, count in examples.items():
        layers = _by_layer(heads[heads["domain"] == domain], "quantity").reset_index()
        body = [
            [row["role"], str(row["layer"]), *(f"{row[quantity]:.4f}" for quantity in QUANTITIES)]
            for row in layers.to_dict("records")
        ]
        blocks += [f"## {in_markdown(domain)} ({count} examples)", Table(header, body)]
    return markdown(blocks)


def heatmap(heads: pd.DataFrame) -> Figure:
    """Draw a panel for each domain (down) and quantity (across), layers by heads; one scale a quantity.

    Args:
        heads: as for `page`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    domains = list(heads["domain"].unique())
    layers, widest = _by_layer(heads, "quantity").index, heads["head"].max() + 1
    heights = [0.17 * len(layers)] * len(domains) + [0.12]
    size = (1.4 + len(LABELS) * max(1.7, 0.17 * widest), sum(heights) + 0.3 * len(domains) + 0.6)
    figure = Figure(size, layout="constrained", dpi=150)
    grid = figure.subplots(len(heights), len(LABELS), height_ratios=heights, squeeze=False)
    for (quantity, label), (*panels, scale) in zip(LABELS.items(), grid.T, strict=True):
        values = heads[heads["quantity"] == quantity]
        top = values["value"].max() or 1.0  # at identity all may be 0, and a scale must have a length
        for domain, axes in zip(domains, panels, strict=True):
            rows = _by_layer(values[values["domain"] == domain], "head")
            # Viridis is read alike with every common form of colour blindness, and in grey.
            image = axes.imshow(rows, cmap="viridis", vmin=0, vmax=top, aspect="auto", interpolation="none")
            axes.set_yticks([])
            axes.tick_params(length=0, labelsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            for number, (_, layer) in enumerate(layers):
                if number and layer == 0:
                    axes.axhline(number - 0.5, color="white", linewidth=3)
        axes.set_xlabel("head")
        figure.colorbar(image, cax=scale, orientation="horizontal", label=label)
    for domain, axes in zip(domains, grid[:, 0], strict=False):
        axes.set_ylabel(in_figure(domain), weight="bold")
        axes.set_yticks(range(len(layers)), [f"{role} {layer}" for role, layer in layers])
    return figure


def _by_layer(rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    """Return means with an index of role and layer, roles in the order of `ROLES`."""
    ordered = rows.assign(role=pd.Categorical(rows["role"], ROLES))
    return ordered.pivot_table(index=["role", "layer"], columns=columns, values="value", observed=True)
