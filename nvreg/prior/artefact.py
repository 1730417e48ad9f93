"""The prior of a whole model, and the safetensors file it is kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers import PreTrainedModel

from nvreg.attention.moments import Moments
from nvreg.errors import UserError
from nvreg.files import write_bytes
from nvreg.identity import ModelIdentity, identify
from nvreg.models.registry import sites as sites_of
from nvreg.models.site import Site

FORMAT = "nvreg-prior-1"


class Prior(Mapping[str, Moments]):
    """Moments by site name, with what they were estimated from.

    Attributes:
        kind: ``empirical``, ``gaussian``, or ``given``.
        model: identity of the model, where they were estimated; only that model may use them.
        data: fingerprint of the text they were estimated on.
    """

    def __init__(
        self,
        moments: Mapping[str, Moments],
        *,
        kind: str = "given",
        model: ModelIdentity | None = None,
        data: str | None = None,
    ) -> None:
        """Take moments by site name, as `nvreg.sites` names them."""
        self._moments = dict(moments)
        self.kind = kind
        self.model = model
        self.data = data

    def __getitem__(self, site: str) -> Moments:
        return self._moments[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)

    @classmethod
    def gaussian(cls, model: PreTrainedModel) -> Prior:
        """Return the standard Gaussian prior at every site of a model (docs/method.md, section 3)."""
        return cls({site.name: Moments.gaussian(site.width) for site in sites_of(model)}, kind="gaussian")

    def check(self, model: PreTrainedModel, sites: Iterable[Site] | None = None) -> None:
        """Check that the prior is this model's.

        Args:
            model: converted or not.
            sites: the model's, where they are known already.

        Raises:
            UserError: if it was estimated on another model, or lacks a site or has another width.
        """
        if self.model is not None and not self.model.matches(actual := identify(model)):
            raise UserError(
                f"expected a prior of this model ({actual}), got one of {self.model}; "
                "estimate this model's with `nvreg prior`"
            )
        for site in sites_of(model) if sites is None else sites:
            if site.name not in self:
                raise UserError(
                    f"expected a prior for the site {site.name!r} of this model, got {_names(self)}"
                )
            if self[site.name].width != site.width:
                raise UserError(
                    f"expected a prior of width {site.width} at {site.name!r}, got {self[site.name].width}"
                )

    @property
    def fingerprint(self) -> str:
        """A digest of the moments: equal priors, equal digests."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._tensors().items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write the prior to a safetensors file, complete or not at all."""
        description = {
            "format": FORMAT,
            "kind": self.kind,
            "tokens": {name: moments.tokens for name, moments in self.items()},
            "model": self.model
            and {"architecture": self.model.architecture, "digests": dict(self.model.digests)},
            "data": self.data,
        }
        write_bytes(Path(path), save(self._tensors(), metadata={"nvreg": json.dumps(description)}))

    @classmethod
    def load(cls, path: str | Path) -> Prior:
        """Read a prior that `save` wrote.

        Raises:
            UserError: if the file is missing or is not a prior.
        """
        try:
            with safe_open(path, framework="pt") as file:
                description = json.loads((file.metadata() or {})["nvreg"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise UserError(f"expected a prior written by `nvreg prior`, found no file {path}") from None
        except (SafetensorError, KeyError, OSError):
            raise UserError(
                f"expected a prior written by `nvreg prior`, {path} is another kind of file"
            ) from None
        if description["format"] != FORMAT:
            raise UserError(f"expected a prior of format {FORMAT}, got {description['format']} in {path}")
        moments = {}
        for name, tokens in description["tokens"].items():
            log_alpha_mean, log_alpha_std = tensors[f"{name}.log_alpha"].tolist()
            moments[name] = Moments(
                tensors[f"{name}.mean"], tensors[f"{name}.variance"], log_alpha_mean, log_alpha_std, tokens
            )
        model = description["model"] and ModelIdentity(**description["model"])
        return cls(moments, kind=description["kind"], model=model, data=description["data"])

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {}
        for name, moments in self.items():
            tensors[f"{name}.mean"] = moments.mean
            tensors[f"{name}.variance"] = moments.variance
            tensors[f"{name}.log_alpha"] = torch.tensor(
                [moments.log_alpha_mean, moments.log_alpha_std], dtype=torch.float64
            )
        return tensors


def _names(prior: Prior) -> str:
    return f"one of {len(prior)} sites ({', '.join(list(prior)[:3])}, ...)" if prior else "an empty one"
