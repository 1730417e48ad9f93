"""How each kind of model reads a text that is longer than its window, every token scored once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from nvreg.errors import UserError
from nvreg.models import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nvreg.config.sections import Prefix


class LabelledTokens(NamedTuple):
    """What a model reads at once, and the token that each of its outputs is scored on, -100 for none.

    An encoder-decoder model reads the inputs in its encoder, and its decoder is fed with the labels.
    """

    inputs: list[int]
    labels: list[int]


def lengths_of(rows: Iterable[Callable[[], LabelledTokens]]) -> list[int]:
    """Return the padded tokens of rows that are made when they are needed."""
    return [max(map(len, make())) for make in rows]


@dataclass(frozen=True)
class Frame:
    """The tokens that a tokenizer puts before and after every text."""

    prefix: list[int]
    suffix: list[int]

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)

    def around(self, tokens: list[int]) -> list[int]:
        """Return a text's tokens in the frame."""
        return [*self.prefix, *tokens, *self.suffix]


def frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Return the frame of a tokenizer, as it puts it around a short text."""
    inner = tokenizer("a", add_special_tokens=False).input_ids
    framed = tokenizer("a").input_ids
    start = next(start for start in range(len(framed)) if framed[start : start + len(inner)] == inner)
    return Frame(framed[:start], framed[start + len(inner) :])


def prefixed(frame: Frame, tokenizer: PreTrainedTokenizerBase, prefix: Prefix) -> tuple[Frame, str]:
    """Return a decoder's frame with something to read before the first token, and what that is.

    A tokenizer that puts something there itself is left to it.

    Args:
        frame: the tokenizer's.
        tokenizer: the model's.
        prefix: what ``evaluation.prefix`` says.

    Returns:
        The frame, and ``own``, ``bos`` or ``eos``, or ``no`` where there is nothing.

    Raises:
        UserError: if a beginning of sequence is asked for and the tokenizer has none.
    """
    if frame.prefix or prefix == "none":
        return frame, "own" if frame.prefix else "no"
    if (bos := tokenizer.bos_token_id) is not None:
        return Frame([bos], frame.suffix), "bos"
    if prefix == "bos":
        raise UserError(
            "evaluation.prefix: expected a tokenizer with a beginning of sequence (bos_token), got one "
            "without; auto takes the end of sequence instead"
        )
    if (eos := tokenizer.eos_token_id) is not None:
        return Frame([eos], frame.suffix), "eos"
    return frame, "no"


def windows(positions: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, first and end of windows, so that the ranges from first to end are all positions once.

    Every window but the first holds ``window`` positions and so at least ``window - stride`` before first,
    the last one more.
    """
    ends = [*range(min(window, positions), positions, stride), positions] if positions > 0 else []
    for first, end in pairwise([0, *ends]):
        yield max(0, end - window), first, end


class Reader(ABC):
    """Reads texts in windows.

    Args:
        frame: the tokenizer's.
        window: the most tokens that the model reads at once, those of the frame included.
        stride: the most tokens that a window scores beyond what the one before it has.

    Attributes:
        likelihood: what is scored on what context, for the signatures.
        unscored: how many tokens at the beginning of a text have no context.
    """

    likelihood: str
    unscored = 0

    def __init__(self, frame: Frame, window: int, stride: int) -> None:
        self._frame = frame
        self._window = window
        self._stride = stride

    @abstractmethod
    def rows(self, tokens: list[int]) -> list[Callable[[], LabelledTokens]]:
        """Return rows that score every token of a text once, but one without context."""

    @abstractmethod
    def pieces(self, tokens: list[int]) -> list[LabelledTokens]:
        """Return rows that read every token of a text once, with labels as Transformers has them."""


class CausalReader(Reader):
    """Reads for a decoder, which predicts each token from those before it and the frame's prefix."""

    def __init__(self, frame: Frame, window: int, stride: int) -> None:
        super().__init__(frame, window, stride)
        self.unscored = 0 if frame.prefix else 1
        self.likelihood = f"bos:{'no' if self.unscored else 'yes'}"

    def rows(self, tokens: list[int]) -> list[Callable[[], LabelledTokens]]:
        """Return sliding windows of inputs; the last input of a window predicts the token after it."""
        ids = [*self._frame.prefix, *tokens]
        return [
            partial(self._row, ids, *window) for window in windows(len(ids) - 1, self._window, self._stride)
        ]

    def _row(self, ids: list[int], start: int, first: int, end: int) -> LabelledTokens:
        first = max(first, len(self._frame.prefix) - 1)
        return LabelledTokens(ids[start:end], [IGNORED] * (first - start) + ids[first + 1 : end + 1])

    def pieces(self, tokens: list[int]) -> list[LabelledTokens]:
        """Return the text cut into windows that do not overlap."""
        ids = [*self._frame.prefix, *tokens]
        cut = [ids[start : start + self._window] for start in range(0, len(ids), self._window)]
        return [LabelledTokens(piece, piece) for piece in cut]


class MaskedReader(Reader):
    """Reads for a masked language model's pseudo-likelihood (Salazar et al., 2020): a row masks one token.

    Args:
        frame: the tokenizer's frame.
        window: as in `Reader`.
        stride: as in `Reader`.
        mask: the token that stands for the scored one.
    """

    likelihood = "pseudo:one-token-masked"

    def __init__(self, frame: Frame, window: int, stride: int, mask: int) -> None:
        super().__init__(frame, window, stride)
        self._mask = mask

    def rows(self, tokens: list[int]) -> list[Callable[[], LabelledTokens]]:
        """Return a row for every token, in the sliding window that scores it."""
        return [
            partial(self._row, tokens, start, position, end)
            for start, first, end in self._windows(tokens)
            for position in range(first, end)
        ]

    def _row(self, tokens: list[int], start: int, position: int, end: int) -> LabelledTokens:
        masked = [*tokens[start:position], self._mask, *tokens[position + 1 : end]]
        inputs = self._frame.around(masked)
        labels = [IGNORED] * len(inputs)
        labels[len(self._frame.prefix) + position - start] = tokens[position]
        return LabelledTokens(inputs, labels)

    def pieces(self, tokens: list[int]) -> list[LabelledTokens]:
        """Return the text cut into windows that do not overlap, without labels: nothing is masked."""
        width = self._window - len(self._frame)
        cut = [self._frame.around(tokens[start : start + width]) for start in range(0, len(tokens), width)]
        return [LabelledTokens(piece, []) for piece in cut]

    def _windows(self, tokens: list[int]) -> Iterator[tuple[int, int, int]]:
        width = self._window - len(self._frame)
        return windows(len(tokens), width, min(width, self._stride))


class EncoderDecoderReader(Reader):
    """Reads for an encoder-decoder model, whose decoder predicts a stride after what the encoder reads.

    The encoder reads the frame around as many tokens before them as the window has left beside the stride,
    at the beginning of a text none. The decoder's first input is the model's own.
    """

    likelihood = "context:encoder"

    def rows(self, tokens: list[int]) -> list[Callable[[], LabelledTokens]]:
        """Return a row for every stride of tokens."""
        return [partial(self._row, tokens, first) for first in range(0, len(tokens), self._stride)]

    def _row(self, tokens: list[int], first: int) -> LabelledTokens:
        context = max(0, self._window - self._stride - len(self._frame))
        before = tokens[max(0, first - context) : first]
        return LabelledTokens(self._frame.around(before), tokens[first : first + self._stride])

    def pieces(self, tokens: list[int]) -> list[LabelledTokens]:
        """Return the same rows: the decoder reads every token once."""
        return [make() for make in self.rows(tokens)]
