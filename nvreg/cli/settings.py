"""Settings as options: ``--tau-alpha``, ``--tau-sigma`` and ``--tau-mu``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nvreg.errors import UserError

if TYPE_CHECKING:
    from nvreg.attention.settings import Settings

BY_ROLE = "NUMBER|ROLE=NUMBER,..."

TauAlpha = Annotated[
    str | None,
    typer.Option(metavar=BY_ROLE, help="Shift of the tokens' log pseudo-counts.", show_default="inf"),
]
TauSigma = Annotated[
    str | None,
    typer.Option(metavar=BY_ROLE, help="The tokens' standard deviation over the prior's.", show_default="0"),
]
TauMu = Annotated[
    str | None,
    typer.Option(metavar=BY_ROLE, help="Weight of a token's vector in its mean.", show_default="1"),
]


def read_settings(tau_alpha: str | None, tau_sigma: str | None, tau_mu: str | None) -> Settings:
    """Return the settings that the options write; one that is not given is as pretrained.

    Raises:
        UserError: if one is no number, no number by role, or out of its range.
    """
    from nvreg.attention.settings import Settings

    written = {"tau_alpha": tau_alpha, "tau_sigma": tau_sigma, "tau_mu": tau_mu}
    try:
        return Settings(**{name: _by_role(name, text) for name, text in written.items() if text is not None})
    except ValueError as error:
        raise UserError(str(error)) from error


def _by_role(name: str, text: str) -> float | dict[str, float]:
    """Read a number, or a number by role as in ``encoder=-3,cross=inf``."""
    try:
        if "=" not in text:
            return float(text)
        parts = (part.partition("=") for part in text.split(","))
        return {role.strip(): float(value) for role, _, value in parts}
    except ValueError as error:
        raise UserError(
            f"--{name.replace('_', '-')}: expected a number, or ROLE=NUMBER and so on, received {text!r}"
        ) from error
