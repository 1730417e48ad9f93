"""Generated text for a batch of sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

if TYPE_CHECKING:
    from nvreg.config import Generation


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Mapping[str, Tensor],
    states: Tensor,
    generation: Generation,
    forced: Mapping[str, int],
) -> list[str]:
    """Return what a sequence-to-sequence model generates for each source, without special tokens.

    The model's own generation config decides what ``generation`` does not name (length penalty, forced and
    forbidden tokens, early stopping), except that nothing is ever sampled.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        inputs: ``input_ids`` and ``attention_mask`` of the sources.
        states: the encoder's last hidden states of them, shape (sources, tokens, width).
        generation: number of beams and largest number of new tokens.
        forced: tokens that the target language decides, by their name in the generation config.
    """
    tokens = model.generate(
        **inputs,
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        num_beams=generation.num_beams,
        max_new_tokens=generation.max_new_tokens,
        do_sample=False,
        **forced,
    )
    texts: list[str] = tokenizer.batch_decode(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts
