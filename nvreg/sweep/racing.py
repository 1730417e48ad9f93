"""Racing: stopping a setting that is clearly worse, after some of the examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

LEVEL = 0.05
"""Of the test on each validation set; a setting has to fail on all of them."""

ExampleScores = Mapping[str, NDArray[np.float64]]
"""By domain, one number an example of its validation set, the greater the better."""


def is_clearly_worse(setting: ExampleScores, incumbent: ExampleScores) -> bool:
    """Return whether a setting is worse than the incumbent on every validation set.

    On each, the one-sided Wilcoxon signed-rank test over the same examples has to reject "not worse" at
    `LEVEL`. A setting that is better anywhere, or for which it is not clear, goes on.

    Args:
        setting: scores of the first examples of each validation set.
        incumbent: of the same examples, for the best setting so far.
    """
    return all(_is_worse(scores - incumbent[domain]) for domain, scores in setting.items())


def _is_worse(differences: NDArray[np.float64]) -> bool:
    if not differences.any():
        return False
    return bool(wilcoxon(differences, zero_method="zsplit", alternative="less").pvalue < LEVEL)
