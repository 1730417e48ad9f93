import math

import pytest

from nvreg.finetune.epochs import History
from nvreg.finetune.schema import EarlyStopping


@pytest.mark.parametrize(
    ("metric", "scores", "best"),
    [
        ("accuracy", [math.nan, 0.5, 0.7, math.nan], 3),
        ("nll", [math.nan, 2.0, 1.0, 1.0], 3),
        ("nll", [math.nan, math.nan], 1),
    ],
)
def test_no_score_is_worse_than_none(metric, scores, best):
    log = [{"epoch": epoch, f"eval_{metric}": score} for epoch, score in enumerate(scores, start=1)]
    assert History(log).best(EarlyStopping(metric=metric))["epoch"] == best


def test_the_loss_of_a_training_is_the_mean_over_its_steps():
    log = [{"loss": 3.0, "step": 4}, {"eval_nll": 9.0, "step": 4}, {"loss": 1.0, "step": 6}]
    assert History(log).train_loss == pytest.approx((4 * 3 + 2 * 1) / 6)
