"""The prior of a whole model, and the safetensors file it is kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers import PreTrainedModel

from nvreg.attention.moments import HeadMoments, Moments
from nvreg.digests import BodyDigest, body_digest
from nvreg.errors import DamagedError, UserError
from nvreg.files import PRIOR_FORMAT, check_no_pipes, write_bytes
from nvreg.models.registry import sites as sites_of
from nvreg.models.site import Site, Space
from nvreg.validation import first_mistake


class BodyFacts(BaseModel):
    """What a prior says of the model that it is of."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    architecture: str
    """Model type of the body."""
    digests: dict[str, str]
    """Digest of the body's weights in each half precision."""


class Description(BaseModel):
    """What a prior's file says of itself in its metadata, as ``nvreg``."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    format: Literal["nvreg-prior-1"]
    """Name of the file's format."""
    kind: str
    """How the prior was made: empirical, gaussian or given."""
    tokens: dict[str, NonNegativeInt]
    """Number of tokens that each site's moments are of; 0 where they were given."""
    model: BodyFacts | None
    """The model that they were estimated on, if they were."""
    data: str | None
    """Fingerprint of the text that they were estimated on."""
    space: Literal["inputs", "heads"] = "inputs"
    """Where NV attention has the vectors that these are moments of."""
    longest: dict[str, NonNegativeInt] = {}
    """The most tokens that one text had, by site, in head space."""


DESCRIPTION = TypeAdapter(Description)
"""The schema of a prior's metadata."""


class Prior(Mapping[str, Moments | HeadMoments]):
    """Moments by site name, all of one space, with what they were estimated from.

    Attributes:
        space: ``inputs`` or ``heads``: where NV attention has the vectors that these are moments of.
        kind: ``empirical``, ``gaussian``, or ``given``.
        model: digest of the body that they were estimated on, if they were; only that body may use them.
        data: fingerprint of the text they were estimated on.
    """

    def __init__(
        self,
        moments: Mapping[str, Moments] | Mapping[str, HeadMoments],
        *,
        kind: str = "given",
        model: BodyDigest | None = None,
        data: str | None = None,
    ) -> None:
        """Take moments by site name, as `nvreg.sites` names them.

        Raises:
            ValueError: if some are of one space and some of the other.
        """
        self._moments: dict[str, Moments | HeadMoments] = dict(moments)
        kinds = {type(each) for each in self._moments.values()}
        if len(kinds) > 1:
            raise ValueError("expected moments of one space, got both Moments and HeadMoments")
        self.space: Space = "heads" if kinds == {HeadMoments} else "inputs"
        self.kind = kind
        self.model = model
        self.data = data

    def __getitem__(self, site: str) -> Moments | HeadMoments:
        return self._moments[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)

    @classmethod
    def gaussian(cls, model: PreTrainedModel) -> Prior:
        """Return the standard Gaussian prior at every site of a model, in input space (section 3)."""
        return cls({site.name: Moments.gaussian(site.width) for site in sites_of(model)}, kind="gaussian")

    def check(self, model: PreTrainedModel, sites: Iterable[Site] | None = None) -> None:
        """Check that the prior is this model's.

        Args:
            model: converted or not.
            sites: the model's, where they are known already.

        Raises:
            UserError: if it was estimated on another model, or lacks a site or has another width.
        """
        if self.model is not None and not self.model.matches(actual := body_digest(model)):
            raise UserError(
                f"expected a prior of this model ({actual}), got one of {self.model}; "
                "estimate this model's with `nvreg prior`"
            )
        for site in sites_of(model, self.space) if sites is None else sites:
            if site.name not in self:
                raise UserError(
                    f"expected a prior for the site {site.name!r} of this model, got {_names(self)}"
                )
            moments = self[site.name]
            if isinstance(moments, Moments) and moments.width != site.width:
                raise UserError(
                    f"expected a prior of width {site.width} at {site.name!r}, got {moments.width}"
                )

    @property
    def longest(self) -> int:
        """The most tokens that a text had, where that was counted: in head space; 0 otherwise."""
        return max((each.longest for each in self.values() if isinstance(each, HeadMoments)), default=0)

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
            "format": PRIOR_FORMAT,
            "kind": self.kind,
            "tokens": {name: moments.tokens for name, moments in self.items()},
            "model": self.model
            and {"architecture": self.model.architecture, "digests": dict(self.model.digests)},
            "data": self.data,
        }
        if self.space == "heads":
            heads = (moments for moments in self.values() if isinstance(moments, HeadMoments))
            longest = {name: moments.longest for name, moments in zip(self, heads, strict=True)}
            description |= {"space": "heads", "longest": longest}
        described, tensors = json.dumps(description), self._tensors()
        metadata = {"nvreg": described, "digest": _digest(described, tensors)}
        write_bytes(Path(path), save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> Prior:
        """Read a prior that `save` wrote.

        Args:
            path: the file.
            fingerprint: that of the prior which is wanted; None: any is.

        Raises:
            UserError: if the file is missing or is not a prior.
            DamagedError: if it is no longer as it was written, or another prior than is wanted.
        """
        check_no_pipes([Path(path)])
        try:
            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                description = json.loads(described := metadata.pop("nvreg"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise UserError(f"expected a prior written by `nvreg prior`, found no file {path}") from None
        except (SafetensorError, KeyError, ValueError, RecursionError, TypeError, OSError):
            raise UserError(
                f"expected a prior written by `nvreg prior`, {path} is another kind of file"
            ) from None
        digest = metadata.pop("digest", None)  # earlier versions wrote none
        if metadata or digest not in (None, _digest(described, tensors)):
            raise DamagedError(
                f"expected a prior as it was written in {path}, got one that has changed since; {_ANEW}"
            )
        try:
            prior = cls._read(description, tensors)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"expected a prior of format {PRIOR_FORMAT} in {path}, got {_described(error)}; {_ANEW}"
            ) from error
        if fingerprint not in (None, prior.fingerprint):
            raise DamagedError(
                f"expected the prior {fingerprint} of the run in {path}, got {prior.fingerprint}; {_ANEW}"
            )
        return prior

    @classmethod
    def _read(cls, description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Prior:
        try:
            DESCRIPTION.validate_python(description)
        except ValidationError as error:
            raise ValueError(first_mistake(error, description)) from None
        longest = description.get("longest", {})
        read = partial(_read_heads, longest=longest) if description.get("space") == "heads" else _read_inputs
        moments: dict[str, Any] = {
            name: read(tensors, name, tokens) for name, tokens in description["tokens"].items()
        }
        model = description["model"] and BodyDigest(**description["model"])
        return cls(moments, kind=description["kind"], model=model, data=description["data"])

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {}
        for name, moments in self.items():
            if isinstance(moments, HeadMoments):
                for part in _HEAD_TENSORS:
                    tensors[f"{name}.{part}"] = getattr(moments, part).contiguous()
                tensors[f"{name}.log_alpha_std"] = torch.tensor([moments.log_alpha_std], dtype=torch.float64)
                continue
            tensors[f"{name}.mean"] = moments.mean
            tensors[f"{name}.variance"] = moments.variance
            tensors[f"{name}.log_alpha"] = torch.tensor(
                [moments.log_alpha_mean, moments.log_alpha_std], dtype=torch.float64
            )
        return tensors


_ANEW = "estimate it again with `nvreg prior`, or run the sweep again where it is a run's"


def _digest(described: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of all that a file of a prior holds."""
    digest = hashlib.sha256(described.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _described(error: Exception) -> str:
    """Return what a file has that cannot be read, in a line."""
    return f"none of {error}" if isinstance(error, KeyError) else " ".join(str(error).split())


_HEAD_TENSORS = ("key_mean", "value_mean", "key_variance", "covariance", "log_alpha_mean")


def _read_inputs(tensors: Mapping[str, torch.Tensor], name: str, tokens: int) -> Moments:
    log_alpha_mean, log_alpha_std = tensors[f"{name}.log_alpha"].tolist()
    return Moments(
        tensors[f"{name}.mean"], tensors[f"{name}.variance"], log_alpha_mean, log_alpha_std, tokens
    )


def _read_heads(
    tensors: Mapping[str, torch.Tensor], name: str, tokens: int, *, longest: Mapping[str, int]
) -> HeadMoments:
    parts: dict[str, Any] = {part: tensors[f"{name}.{part}"] for part in _HEAD_TENSORS}
    log_alpha_std = tensors[f"{name}.log_alpha_std"].item()
    return HeadMoments(**parts, log_alpha_std=log_alpha_std, tokens=tokens, longest=longest[name])


def _names(prior: Prior) -> str:
    return f"one of {len(prior)} sites ({', '.join(list(prior)[:3])}, ...)" if prior else "an empty one"
