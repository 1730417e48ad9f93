"""``nvreg lm-eval``."""

import json
import sys
from typing import Annotated

import typer

from nvreg.cli.options import (
    NoiseShare,
    PriorColumn,
    PriorData,
    PriorFile,
    PriorTargetColumn,
    PriorWeight,
    Space,
    TauAlpha,
    TauMu,
    TauSigma,
    read_nv_setting,
)
from nvreg.errors import UserError

Model = Annotated[
    str,
    typer.Argument(
        metavar="OUT", help="Directory of a converted model, or a checkpoint with a setting and a prior."
    ),
]


def lm_eval(
    context: typer.Context,
    model: Model,
    space: Space = None,
    prior: PriorFile = None,
    prior_data: PriorData = None,
    column: PriorColumn = None,
    target_column: PriorTargetColumn = None,
    prior_weight: PriorWeight = None,
    tau_alpha: TauAlpha = None,
    tau_sigma: TauSigma = None,
    noise_share: NoiseShare = None,
    tau_mu: TauMu = None,
) -> None:
    """Run lm-evaluation-harness on a regularised model.

    What follows OUT and is not listed below are the harness's own options, as of its command lm_eval.

    Example:
        nvreg lm-eval OUT --tasks hellaswag piqa --batch_size 8

        nvreg lm-eval OUT --tau-sigma cross=0.2 --tasks lambada_openai --use_cache answers
    """
    setting = read_nv_setting(
        prior_weight=prior_weight,
        tau_alpha=tau_alpha,
        tau_sigma=tau_sigma,
        noise_share=noise_share,
        tau_mu=tau_mu,
    )
    try:
        from lm_eval.__main__ import cli_evaluate

        import nvreg.harness  # noqa: F401 - which registers the model
    except ModuleNotFoundError as error:
        raise UserError(
            f'expected lm-evaluation-harness, got no module {error.name}; pip install "nvreg[lm-eval]"'
        ) from error
    given = {
        "pretrained": model,
        "space": space,
        "prior": None if prior is None else str(prior),
        "prior_data": prior_data,
        "column": column,
        "target_column": target_column,
        **setting.to_dict(),
    }
    arguments = json.dumps({name: value for name, value in given.items() if value is not None})
    # The last ones count, whatever the options before them say.
    sys.argv = ["lm_eval", *context.args, "--model", "nvreg", "--model_args", arguments]
    cli_evaluate()
