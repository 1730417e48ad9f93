"""lm-evaluation-harness's model ``nvreg``: its own ``hf`` with attention regularised (docs/evaluate.md).

Importing this module registers it with the harness, which the extra ``nvreg[lm-eval]`` installs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

import nvreg
from nvreg.checkpoint import converted_directory
from nvreg.digests import fingerprint
from nvreg.errors import UserError, expected_one_of
from nvreg.evaluation.request import Regularisation
from nvreg.evaluation.subject import regularise_
from nvreg.files import check_digests
from nvreg.methods.method import Batch
from nvreg.methods.nv import NVSetting
from nvreg.models.site import Space
from nvreg.parameters import read_value
from nvreg.results import digest
from nvreg.tasks.sampling import CALIBRATION_TOKENS, batches_of_file

SPEED = {"batch_size", "device", "max_batch_size"}
"""Model arguments that no answer depends on."""


@register_model("nvreg")
class NVRegLM(HFLM):
    """A model of Transformers, decoder-only or encoder-decoder, with NV attention.

    Args:
        pretrained: what ``nvreg convert`` or ``nvreg export`` wrote, whose prior and setting are used unless
            others are given; or a checkpoint, with a setting and a prior.
        prior: file of the prior.
        prior_data: in-domain training text, a file, an address or ``hub:NAME``, for the prior where there is
            none, and for prior weights.
        column: its column of texts, or of sources.
        target_column: its column of targets, for an encoder-decoder model.
        space: the space of a prior that is estimated, ``inputs`` or ``heads``.
        prior_weight: the wanted mean weight of the prior, from which tau_alpha is solved for.
        tau_alpha: as in `nvreg.Settings`; this and the others are a number, a mapping by role, or text as in
            ``encoder=-3;cross=inf``.
        tau_sigma: as in `nvreg.Settings`.
        noise_share: as in `nvreg.Settings`.
        tau_mu: as in `nvreg.Settings`.
        options: the harness's own model arguments, as for its model ``hf``.

    Attributes:
        regularisation: what the results of the harness have under ``config.nvreg``, and its cache goes by.

    Raises:
        UserError: if there is nothing to regularise with, or it does not fit the model.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        prior: str | None = None,
        prior_data: str | None = None,
        column: str | None = None,
        target_column: str | None = None,
        space: Space | None = None,
        prior_weight: Any = None,
        tau_alpha: Any = None,
        tau_sigma: Any = None,
        noise_share: Any = None,
        tau_mu: Any = None,
        **options: Any,
    ) -> None:
        if space is not None and space not in get_args(Space):
            raise UserError(f"space: {expected_one_of(get_args(Space), space)}")
        if prior_data is not None and column is None:
            raise UserError("expected column=NAME with prior_data=FILE, got none")
        given = {
            "prior_weight": prior_weight,
            "tau_alpha": tau_alpha,
            "tau_sigma": tau_sigma,
            "noise_share": noise_share,
            "tau_mu": tau_mu,
        }
        try:
            values = {
                name: read_value(name, each) if isinstance(each, str) else each
                for name, each in given.items()
            }
            setting = NVSetting(**values)
        except ValueError as error:
            raise UserError(str(error)) from error
        self._wanted = Regularisation(setting, space, Path(prior) if prior else None, prior_data)
        self._columns = column, target_column
        self._options = {name: str(value) for name, value in options.items() if name not in SPEED}
        self.regularisation: dict[str, Any] = {}
        super().__init__(pretrained, **options)

    def _create_model(self, pretrained: str, *arguments: Any, **options: Any) -> None:
        """Load the model as the harness does, and regularise it."""
        converted = converted_directory(pretrained, options.get("revision"))
        check_digests(converted or Path(pretrained))
        super()._create_model(pretrained, *arguments, **options)
        self._model.eval()
        weights = fingerprint(self._model)
        done = regularise_(
            self._model,
            converted,
            self._wanted,
            lambda _: self._text(),
            lambda: self._text(CALIBRATION_TOKENS),
        )
        if done is None:
            raise UserError(
                "expected a directory that nvreg convert or nvreg export wrote, or a setting, got neither in "
                f"{pretrained}; as pretrained it is the harness's own model hf"
            )
        self.regularisation = {"version": nvreg.__version__, "fingerprint": weights, **done}

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness writes of its model, with how it is regularised, under ``nvreg``."""
        return {**super().get_model_info(), "nvreg": self.regularisation}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Have answers cached in a table of this model, setting and options, whatever the file.

        The harness finds answers by the request alone, and one file may be given for several models.
        """
        if (cache := cache_hook.dbdict) is not None:
            table = f"nvreg {digest([self.regularisation, self._options])}"
            type(cache)(cache.filename, tablename=table).close()  # which makes the table
            cache.tablename = table
        super().set_cache_hook(cache_hook)

    def _text(self, tokens: int | None = None) -> Sequence[Batch]:
        assert self._wanted.prior_data
        file, (column, target) = self._wanted.prior_data, self._columns
        assert column
        return batches_of_file(self._model, self.tokenizer, file, column, target, tokens=tokens)
