"""The post-training parameters of NV attention, by role and by layer (docs/method.md, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from nvreg.parameters import Parameter, Setting

PARAMETERS: Mapping[str, Parameter] = {  # beyond these numbers float32 has none for what follows from them
    "tau_alpha": Parameter(
        math.inf, "a number from -1e30 to 1e30, or inf", lambda v: abs(v) <= 1e30 or v == math.inf
    ),
    "tau_sigma": Parameter(0.0, "a number from 0 to 1e15", lambda v: 0 <= v <= 1e15),
    "tau_mu": Parameter(1.0, "a number from 0 to 1", lambda v: 0 <= v <= 1),
}

PRIOR_WEIGHT = Parameter(0.0, "a number from 0 to below 1", lambda v: 0 <= v < 1, logarithmic=True)
"""The wanted mean weight of the prior, which may stand for tau_alpha (docs/method.md, section 3)."""

NOISE_SHARE = Parameter(0.0, "a number from 0 to below 1", lambda v: 0 <= v < 1, logarithmic=True)
"""The wanted mean share of a token's variance in what is seen of it, which may stand for tau_sigma."""


class SiteSettings(NamedTuple):
    """The parameters of one attention site (docs/method.md, section 3)."""

    tau_alpha: float = math.inf
    tau_sigma: float = 0.0
    tau_mu: float = 1.0

    @property
    def is_identity(self) -> bool:
        """Whether the site is exactly the pretrained one."""
        return self == SiteSettings()

    @property
    def has_prior(self) -> bool:
        """Whether the prior component takes part: at ``tau_alpha = inf`` its weight is 0."""
        return self.tau_alpha < math.inf

    @property
    def changes_tokens(self) -> bool:
        """Whether token components differ from the pretrained vectors."""
        return self.tau_sigma > 0 or self.tau_mu < 1


class Settings(Setting):
    """What to do at every site of a model; what is not named is at identity.

    Each parameter is a number for all roles, or a mapping from role (``encoder``, ``cross``,
    ``decoder``) to a number or to a list with one value a layer. ``noise_share`` may stand for tau_sigma: a
    converted model solves for it, from its prior alone.

    Raises:
        ValueError: if a value is NaN, -inf, or outside what docs/method.md, section 3, allows, or both
            noise_share and tau_sigma are given.

    Example:
        >>> print(Settings(tau_alpha={"encoder": -3, "decoder": [2, "inf"]}, tau_sigma=0.1))
        tau_alpha encoder=-3 decoder=[2, inf]; tau_sigma 0.1
    """

    parameters: ClassVar = {**PARAMETERS, "noise_share": NOISE_SHARE}

    def __init__(
        self, tau_alpha: Any = None, tau_sigma: Any = None, tau_mu: Any = None, *, noise_share: Any = None
    ) -> None:
        super().__init__(tau_alpha=tau_alpha, tau_sigma=tau_sigma, tau_mu=tau_mu, noise_share=noise_share)
        check_one_of(self, "noise_share", "tau_sigma")

    def at(self, role: str, layer: int) -> SiteSettings:
        """Return the parameters of layer ``layer`` (from 0) of ``role``; a noise share is not among them."""
        return SiteSettings(*(self.value(name, role, layer) for name in PARAMETERS))


def check_one_of(setting: Setting, *names: str) -> None:
    """Check that of parameters which stand for each other one at most is given.

    Raises:
        ValueError: if several are.
    """
    if setting.to_dict().keys() >= set(names):
        raise ValueError(f"expected {' or '.join(names)}, got both")
