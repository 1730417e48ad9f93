"""Generated text for a batch of sources: in which language, and by which of the model's own options."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from nvreg.errors import NotFiniteError, UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from nvreg.config import Generation

_ONE_TEXT: Mapping[str, Any] = {
    "do_sample": False,
    "num_return_sequences": 1,
    **dict.fromkeys(
        ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions"), False
    ),
    "output_hidden_states": False,
    "max_time": None,
}
"""Options of every call: one text a source and nothing beside it, the same however busy the machine is."""

_HOW = (
    "assistant_early_exit",
    "cache_implementation",
    "is_assistant",
    "low_memory",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "use_mtp",
)
"""Options of a checkpoint that are for speed or memory alone, and that a batch of sources often rules out."""

_NOT_SERVED = (
    "constraints",
    "dola_layers",
    "force_words_ids",
    "guidance_scale",
    "num_beam_groups",
    "penalty_alpha",
    "token_healing",
)
"""Options of a checkpoint that are refused: Transformers gave their code up, or they read the source anew."""


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
    forbidden tokens, stop strings, early stopping), except that nothing is ever sampled and each source has
    one text.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        inputs: ``input_ids`` and ``attention_mask`` of the sources.
        states: the encoder's last hidden states of them, shape (sources, tokens, width).
        generation: number of beams and largest number of new tokens.
        forced: tokens that the target language decides, by their name in the generation config.

    Raises:
        NotFiniteError: if the scores of some next token are not finite, with the number of its source.
    """
    from transformers.modeling_outputs import BaseModelOutput

    encoded = BaseModelOutput(last_hidden_state=states)
    tokens = _generate(model, tokenizer, generation, **inputs, encoder_outputs=encoded, **forced)
    texts: list[str] = tokenizer.batch_decode(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts


def _generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, generation: Generation, **inputs: Any
) -> Tensor:
    from nvreg.models.teacher_forcing import is_token

    config = model.generation_config
    more: dict[str, Any] = {"tokenizer": tokenizer} if config.stop_strings else {}
    if config.pad_token_id is not None and not is_token(model.config, config.pad_token_id, decoder=True):
        more["pad_token_id"] = tokenizer.eos_token_id  # no text, like padding
    generate: Any = model.generate  # of those classes that can
    watch = _Watch()
    tokens: Tensor = generate(**inputs, **_options(generation), **more, logits_processor=[watch])
    watch.check(len(tokens))
    return tokens


class _Watch:
    """A logits processor that changes nothing, and notes which rows have scores that are not finite.

    A token that is forbidden has the score -inf, but never all of a vocabulary.
    """

    def __init__(self) -> None:
        self._is_finite: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        is_finite = scores.amax(dim=-1).isfinite()
        self._is_finite = is_finite if self._is_finite is None else self._is_finite & is_finite
        return scores

    def check(self, sources: int) -> None:
        """Raise a NotFiniteError for the first of so many sources whose beams had such scores."""
        if self._is_finite is not None and not self._is_finite.all():
            of_sources = self._is_finite.view(sources, -1).all(dim=1)
            raise NotFiniteError(int(of_sources.logical_not().nonzero()[0]))


def check_generation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, generation: Generation
) -> None:
    """Check that a model's own generation config asks for nothing that `generate` cannot do.

    Raises:
        UserError: if it does; it names the options.
    """
    from transformers import StopStringCriteria

    config = deepcopy(model.generation_config)
    config.update(**_options(generation))
    if config.stop_strings:
        try:
            StopStringCriteria(tokenizer, config.stop_strings)
        except TypeError as error:
            raise UserError(
                f"expected stop strings, got {config.stop_strings!r}; change stop_strings in "
                "generation_config.json"
            ) from error
        except ValueError as error:
            raise UserError(
                "expected a tokenizer that has all letters, in whose tokens stop strings are found, got "
                f"stop_strings {config.stop_strings} without; remove them from generation_config.json"
            ) from error
    is_plain = config.get_generation_mode() in ("greedy_search", "beam_search")
    if not is_plain or config.guidance_scale not in (None, 1) or config.token_healing:
        given = {key: getattr(config, key) for key in _NOT_SERVED if getattr(config, key, None) is not None}
        raise UserError(
            f"expected a checkpoint that generates by greedy or beam search, got {given} in its "
            "generation_config.json; remove these"
        )


def try_generation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, generation: Generation
) -> None:
    """Check that a model generates by its own generation config, with the first two tokens of a text.

    Raises:
        UserError: if it does only without some options of that config, which it names, or not at all.
    """
    import torch

    from nvreg.models.teacher_forcing import device_of

    own = model.generation_config
    source = torch.zeros(1, 1, dtype=torch.int64, device=device_of(model))
    short = generation.model_copy(update={"max_new_tokens": 2})

    def fails(config: GenerationConfig) -> Exception | None:
        model.generation_config = config
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _generate(model, tokenizer, short, input_ids=source, attention_mask=source + 1)
        except Exception as error:  # whatever any option leads to
            return error
        finally:
            model.generation_config = own
        return None

    if not (error := fails(own)):
        return
    given, without, working = own.to_diff_dict(), {}, deepcopy(own)
    for key, value in given.items():
        setattr(working, key, getattr(model.config, key, None))
        without[key] = value
        if not fails(working):
            break
    else:
        raise UserError(  # what is missing is to blame, not what is there
            "expected a checkpoint that generates text by its generation_config.json, got: "
            f"{' '.join(str(error).split()):.300}; put back what it lacks"
        ) from error
    failing = {}
    for key, value in without.items():
        one = deepcopy(working)
        setattr(one, key, value)
        if fails(one):
            failing[key] = value
    raise UserError(
        f"expected options that the model can generate with, got {failing} in its generation_config.json; "
        f"remove these ({' '.join(str(error).split()):.200})"
    ) from error


def set_languages(
    tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None
) -> dict[str, int]:
    """Set the languages of a tokenizer in place, and return the options of `generate` they decide.

    Args:
        tokenizer: the tokenizer of one pair of languages, or of many (mBART, M2M100, NLLB).
        source: a language as the tokenizer writes it; by default the tokenizer's own.
        target: the same for the target.

    Returns:
        Nothing for a tokenizer of one pair. Else ``forced_bos_token_id`` where a target begins with its
        language, or ``decoder_start_token_id`` where it ends with it, which the decoder then starts with.

    Raises:
        UserError: if the tokenizer does not know these languages, or needs them and has none.
    """
    if not hasattr(tokenizer, "src_lang"):
        if source or target:
            raise UserError(
                "data.source_language, data.target_language: expected none, as the model has one pair of "
                f"languages, got {' and '.join(filter(None, (source, target)))}"
            )
        return {}
    source, target = source or tokenizer.src_lang, target or tokenizer.tgt_lang
    if not target:
        raise UserError(
            "data.target_language, or --target-language: expected a language, as the model has many, got none"
        )
    try:
        tokenizer.src_lang, tokenizer.tgt_lang = source, target
        frames = {"source": tokenizer("").input_ids, "target": tokenizer(text_target="").input_ids}
    except KeyError as error:
        raise UserError(f"data: expected languages of the model's tokenizer, got {error}") from error
    for side, frame in frames.items():
        if tokenizer.unk_token_id in frame:
            got = source if side == "source" else target
            raise UserError(
                f"data.{side}_language: expected a language of the model's tokenizer, got {got!r}"
            )
    first, last = frames["target"][0], frames["target"][-1]
    if first == tokenizer.eos_token_id:
        return {"decoder_start_token_id": last}
    return {"forced_bos_token_id": first}


def _options(generation: Generation) -> dict[str, Any]:
    named = {"num_beams": generation.num_beams, "max_new_tokens": generation.max_new_tokens}
    return {**dict.fromkeys(_HOW), **_ONE_TEXT, **named}
