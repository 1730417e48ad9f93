"""Fisher scores of dropout sites: the information in their parameters (docs/regularisers.md, section 2)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, TypeAdapter
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.digests import BodyDigest, body_digest
from nvreg.errors import DamagedError, UserError
from nvreg.files import FISHER_FORMAT, check_no_pipes, write_text
from nvreg.finetune.dropout import DropoutSite, dropout_sites
from nvreg.prior.artefact import BodyFacts
from nvreg.results import digest, is_changed_manifest, sealed_manifest
from nvreg.validation import checked, parsed

SAVE_PERIOD = 30.0
"""Largest number of seconds of work that a kill loses."""

Information = Annotated[FiniteFloat, Field(ge=0)]
"""A mean of squares."""


class WrittenScores(BaseModel):
    """Fisher scores as ``nvreg fisher`` writes them."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal["nvreg-fisher-1"]
    """Name of the file's format."""
    loss: str
    """The loss whose gradients they are of."""
    sequences: PositiveInt
    """Number of sequences that they are means over."""
    model: BodyFacts
    """The model whose they are."""
    data: str
    """Fingerprint of the text."""
    sites: dict[str, Annotated[dict[str, Information], Field(min_length=1)]]
    """Mean information of a parameter's elements, by dropout site in forward order and by parameter."""
    scores: dict[str, Information] = {}
    """Score by site: the mean over its parameters."""
    digest: str | None = None
    """Digest of all of it; earlier versions wrote none."""


WRITTEN_SCORES = TypeAdapter(WrittenScores)
"""The schema of a file of Fisher scores."""

Sequences = Callable[[int], Iterable[Mapping[str, Tensor]]]
"""A function from an example's number to its sequences, each a batch of one with labels."""


@dataclass(frozen=True)
class Fisher:
    """Diagonal empirical Fisher information of what feeds each dropout site of a model's body.

    Attributes:
        loss: masked-lm, causal, seq2seq, classification or token-classification.
        sequences: number of sequences that the information is the mean over.
        model: digest of the body.
        data: fingerprint of the text.
        sites: mean information of a parameter's elements, by site in forward order and by parameter.
    """

    loss: str
    sequences: int
    model: BodyDigest
    data: str
    sites: Mapping[str, Mapping[str, float]]

    @property
    def scores(self) -> dict[str, float]:
        """Score by site: the mean over its parameters, which count the same whatever their size."""
        return {name: sum(tensors.values()) / len(tensors) for name, tensors in self.sites.items()}

    def check(self, model: PreTrainedModel) -> None:
        """Check that the scores are of this model's body.

        Raises:
            UserError: if they are not.
        """
        if not self.model.matches(actual := body_digest(model)):
            raise UserError(
                f"expected Fisher scores of this model ({actual}), got those of {self.model}; "
                "estimate this model's with `nvreg fisher`"
            )

    def save(self, path: Path) -> None:
        """Write the scores to a JSON file, complete or not at all."""
        document = {"format": FISHER_FORMAT, **asdict(self), "scores": self.scores}
        write_text(path, json.dumps(sealed_manifest(document), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Fisher:
        """Read scores that `save` wrote.

        Raises:
            UserError: if the file is missing or is something else; the message names the key.
            DamagedError: if it is no longer as it was written.
        """
        hint = "estimate them with `nvreg fisher`"
        check_no_pipes([path])
        try:
            text = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"expected Fisher scores written by `nvreg fisher`, got {path} ({error.strerror})"
            ) from error
        written = checked(WRITTEN_SCORES, text, str(path), hint)
        if is_changed_manifest(parsed(text, str(path), hint)):
            raise DamagedError(
                f"expected Fisher scores as they were written in {path}, got others; {hint} again"
            )
        model = BodyDigest(written.model.architecture, written.model.digests)
        return cls(written.loss, written.sequences, model, written.data, written.sites)


def estimate_fisher(
    model: PreTrainedModel,
    sequences: Sequences,
    examples: int,
    *,
    loss: str,
    data: str,
    partial: Path | None = None,
    step: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> Fisher:
    """Estimate the Fisher information of a model's body with dropout off.

    Each sequence is a batch of its own: its gradient is squared, exactly, and only the mean square of every
    parameter is kept.

    Args:
        model: a model with a head that has a loss.
        sequences: the sequences of an example, by its number.
        examples: number of examples.
        loss: name of the loss.
        data: fingerprint of the text.
        partial: file that keeps the work so far every `SAVE_PERIOD`, and that work goes on from; removed at
            the end.
        step: called after each example.
        say: is told in a line that the work so far is damaged, and begun anew.

    Raises:
        UserError: if the model's body has no dropout, there is no sequence, or a loss or gradient is not
            finite.
    """
    body = body_digest(model)
    first = next(chain.from_iterable(map(sequences, range(examples))), None)
    if first is None:
        raise UserError("expected text with at least one sequence of tokens, got none")
    sites = dropout_sites(model, first)
    sums = _Sums(sorted({tensor for site in sites for tensor in site.tensors}))
    key = {"format": FISHER_FORMAT, "loss": loss, "model": asdict(body), "data": data, "examples": examples}
    if partial is not None:
        sums.load(partial, key, say)
    saved = time.monotonic()
    for number in range(examples):
        if number >= sums.examples:
            sums.add(model, sequences(number), number)
        step()
        if partial is not None and time.monotonic() - saved > SAVE_PERIOD:
            sums.save(partial, key)
            saved = time.monotonic()
    if partial is not None:
        partial.unlink(missing_ok=True)
    return Fisher(loss, sums.sequences, body, data, _by_site(sites, sums))


class _Sums:
    """Sums of the mean squared gradient of each parameter, over the sequences so far."""

    def __init__(self, names: Sequence[str]) -> None:
        self.total = dict.fromkeys(names, 0.0)
        self.examples = 0
        self.sequences = 0

    def add(self, model: PreTrainedModel, sequences: Iterable[Mapping[str, Tensor]], number: int) -> None:
        """Add the sequences of one example, of this number from 0.

        Raises:
            UserError: if the loss or a gradient is not finite.
        """
        body = model.base_model
        tensors = [body.get_parameter(name) for name in self.total]
        model.eval()
        for sequence in sequences:
            loss = model(**{name: tensor.to(model.device) for name, tensor in sequence.items()}).loss
            for name, gradient in zip(
                self.total, torch.autograd.grad(loss, tensors, allow_unused=True), strict=True
            ):
                if gradient is not None:
                    flat = gradient.flatten()
                    # A tensor of squares would take longer for its memory than for its numbers.
                    self.total[name] += flat.dot(flat).item() / flat.numel()
            if not all(map(math.isfinite, (loss.item(), *self.total.values()))):
                raise UserError(
                    f"example {number + 1}: expected a finite loss and finite gradients, got a loss of "
                    f"{loss.item()}; the weights of the model are not finite, or too large"
                )
            self.sequences += 1
        self.examples += 1

    def save(self, path: Path, key: Mapping[str, object]) -> None:
        """Write the work so far; JSON keeps every digit."""
        document = {"key": key, **vars(self)}
        write_text(path, json.dumps({"digest": digest(document), **document}))

    def load(self, path: Path, key: Mapping[str, object], say: Callable[[str], None]) -> None:
        """Continue from what `save` wrote with the same key, if there is any."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            is_whole = document.pop("digest") == digest(document)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            is_whole = False
        if not is_whole:
            say(f"{path} is not as it was written; the estimation begins anew")
        elif document.pop("key") == key and document["total"].keys() == self.total.keys():
            vars(self).update(document)


def _by_site(sites: Sequence[DropoutSite], sums: _Sums) -> dict[str, dict[str, float]]:
    return {
        site.name: {tensor: sums.total[tensor] / sums.sequences for tensor in site.tensors} for site in sites
    }
