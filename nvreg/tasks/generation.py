"""Generated text for token sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nvreg.data import batches, model_inputs

if TYPE_CHECKING:
    from nvreg.config import Generation


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[Sequence[int]],
    generation: Generation,
    budget: int,
    forced: Mapping[str, int],
) -> list[str]:
    """Return what a sequence-to-sequence model generates for each source, without special tokens.

    The model's own generation config decides what ``generation`` does not name (length penalty, forced and
    forbidden tokens, early stopping), except that nothing is ever sampled.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        sources: token ids of each source.
        generation: number of beams and largest number of new tokens.
        budget: padded source tokens of a batch, over all beams.
        forced: tokens that the target language decides, by their name in the generation config.
    """
    predictions = [""] * len(sources)
    for indices in batches([len(source) for source in sources], budget // generation.num_beams):
        inputs = model_inputs([sources[index] for index in indices], tokenizer.pad_token_id)
        tokens = model.generate(
            **{name: tensor.to(model.device) for name, tensor in inputs.items()},
            num_beams=generation.num_beams,
            max_new_tokens=generation.max_new_tokens,
            do_sample=False,
            **forced,
        )
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for index, text in zip(indices, texts, strict=True):
            predictions[index] = text
    return predictions
