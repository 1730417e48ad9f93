"""Does regularising a checkpoint's attention after training make it hold up better on other domains?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nvreg.attention.moments import HeadMoments, Moments
    from nvreg.attention.settings import Settings
    from nvreg.checkpoint import from_pretrained, push_to_hub, save_pretrained
    from nvreg.errors import UserError
    from nvreg.estimation.calibration import calibrate
    from nvreg.estimation.estimate import estimate_prior
    from nvreg.models.convert import convert_, revert_, set_settings_
    from nvreg.models.registry import sites
    from nvreg.models.site import Site
    from nvreg.prior.artefact import Prior

__version__ = "0.1.0"

_HOMES = {
    "HeadMoments": "attention.moments",
    "Moments": "attention.moments",
    "Prior": "prior.artefact",
    "Settings": "attention.settings",
    "Site": "models.site",
    "UserError": "errors",
    "calibrate": "estimation.calibration",
    "convert_": "models.convert",
    "estimate_prior": "estimation.estimate",
    "from_pretrained": "checkpoint",
    "push_to_hub": "checkpoint",
    "revert_": "models.convert",
    "save_pretrained": "checkpoint",
    "set_settings_": "models.convert",
    "sites": "models.registry",
}

__all__ = [  # noqa: RUF022 - in the order of use
    "sites",
    "Site",
    "estimate_prior",
    "Prior",
    "Moments",
    "HeadMoments",
    "Settings",
    "calibrate",
    "convert_",
    "set_settings_",
    "revert_",
    "save_pretrained",
    "from_pretrained",
    "push_to_hub",
    "UserError",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line starts without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nvreg' has no attribute {name!r}")
    return getattr(import_module(f"nvreg.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, whether they are imported yet or not."""
    return sorted([*__all__, "__version__"])
