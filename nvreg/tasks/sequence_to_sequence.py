"""Sequence-to-sequence tasks: likelihood of the reference, and generated text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from nvreg.data import Examples, model_inputs, pad
from nvreg.errors import NotFiniteError
from nvreg.metrics import METRICS, Tokenisation, text_statistics
from nvreg.metrics.likelihood import byte_and_word_statistics
from nvreg.metrics.text import bleu_of
from nvreg.metrics.tokenisation import tokenisation_of, writing_of_language, writing_of_texts
from nvreg.models import IGNORED
from nvreg.tasks.base import READS_PAIRS, WRITES_TEXT, Task
from nvreg.tasks.generation import check_generation, generate, set_languages, try_generation
from nvreg.tasks.limits import check_length, token_limit, tokenise

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from nvreg.config import Evaluation, Reading
    from nvreg.models.loading import AutoClass
    from nvreg.tasks.forward import EncoderStates


_TARGET_LANGUAGE = ("tgt_lang", "target_lang")
"""What tokenizers of many languages, and of one pair, call the language of targets."""


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of sources and targets, what the targets say, and what of that is scored."""

    sources: list[list[int]]
    targets: list[list[int]]
    references: list[str]
    characters: list[int]
    truncated: int
    scored: list[str] = field(compare=False)


class SequenceToSequence(Task[EncodedPairs]):
    """Scores how likely a model finds the reference texts, and its own texts against them.

    The source is cut to ``data.max_length`` tokens or the model's limit, the target to the latter; both keep
    their end of sentence. Every token of the target is scored, the end of sentence included, and the mark
    of its language where it has one.

    The encoder runs once for both, so that a batch is the same for both.

    Raises:
        UserError: if a length is beyond the model's positions, or a language not the tokenizer's.
    """

    auto_class: ClassVar[AutoClass] = {"encoder-decoder": "AutoModelForSeq2SeqLM"}
    groups = frozenset({"likelihood", "text"})
    generates = True
    trainable = True
    uses = READS_PAIRS | WRITES_TEXT
    likelihood = "scored:tokens+eos"

    def _prepare(self, data: Reading, evaluation: Evaluation) -> None:
        self._scores_targets = bool({"likelihood", "text"} & set(self._groups))
        self._generates = not {"likelihood", "text"}.issuperset(self._groups)
        self._generation = evaluation.generation
        check_length(self._config, "data.max_length", data.max_length)
        if self._generates:
            new_tokens = evaluation.generation.max_new_tokens
            check_length(self._config, "evaluation.generation.max_new_tokens", new_tokens)
        self._forced = set_languages(self._tokenizer, data.source_language, data.target_language)
        self._said = evaluation.bleu_tokenize, evaluation.rouge_tokenize
        languages = [
            data.target_language,
            *(getattr(self._tokenizer, name, None) for name in _TARGET_LANGUAGE),
        ]
        languages.append(data.columns.get(self.required[1]))
        writings = (writing_of_language(language) for language in languages if language)
        known = next(filter(None, writings), None)
        self._is_decided = known is not None or all(self._said)
        self._cut_as(known or "Latin")
        self._prefix = data.source_prefix or ""
        self._target_limit = token_limit(self._config, self._tokenizer)
        self._source_limit = data.max_length or self._target_limit

    def encode(self, examples: Examples) -> EncodedPairs:
        """Tokenise a data set, counting the examples of which source or target is cut."""
        source, target = self.required
        texts = [self._prefix + record[source] for record in examples.records]
        references = [record[target] for record in examples.records]
        if not self._is_decided:
            self._cut_as_written(references)
        sources, cut_sources = tokenise(self._tokenizer, self._source_limit, text=texts)
        targets, cut_targets = tokenise(self._tokenizer, self._target_limit, text_target=references)
        scored = list(references)
        for index in cut_targets:
            scored[index] = self._tokenizer.decode(targets.input_ids[index], skip_special_tokens=True)
        truncated, characters = len(cut_sources | cut_targets), list(map(len, scored))
        return EncodedPairs(sources.input_ids, targets.input_ids, references, characters, truncated, scored)

    def _cut_as(self, writing: str) -> None:
        """Cut text into words as its writing needs, where the file does not say how."""
        wanted, (bleu, rouge) = tokenisation_of(writing), self._said
        self.tokenisation = Tokenisation(bleu or wanted.bleu, rouge or wanted.rouge)
        if {"bleu", "overlap"} & set(self._groups):
            bleu_of(self.tokenisation.bleu)  # what it lacks is said before anything is scored

    def _cut_as_written(self, references: Sequence[str]) -> None:
        """Cut text as the references of the first data set are written; all data sets have one language."""
        plain, writing, self._is_decided = self.signatures, writing_of_texts(references), True
        self._cut_as(writing)
        if changed := [name for name, signature in self.signatures.items() if signature != plain[name]]:
            self.notes = [
                f"{', '.join(changed)}: BLEU is tokenised by {self.tokenisation.bleu}, ROUGE counts "
                f"{self.tokenisation.rouge}, as the references are in {writing} script; "
                "evaluation.bleu_tokenize and evaluation.rouge_tokenize say otherwise"
            ]

    def batch(self, encoded: EncodedPairs, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``labels`` of the examples of these positions."""
        inputs = model_inputs([encoded.sources[index] for index in indices], self._padding)
        return {**inputs, "labels": pad([encoded.targets[index] for index in indices], IGNORED)}

    def check_model(self, model: PreTrainedModel) -> None:
        """Check that the model's own generation config can be followed, where something is generated."""
        if self._generates:
            check_generation(model, self._tokenizer, self._generation)
            try_generation(model, self._tokenizer, self._generation)

    @property
    def scores_as_read(self) -> bool:
        """Whether the likelihood of the targets is scored, beside what is generated."""
        return self._scores_targets

    def lengths(self, encoded: EncodedPairs) -> list[int]:
        """Return the tokens of every source or target, whichever is longer."""
        return [max(map(len, pair)) for pair in zip(encoded.sources, encoded.targets, strict=True)]

    def teacher_forced(self, encoded: EncodedPairs) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of `batch`, long and short ones mixed."""
        for indices in self._mixed(self.lengths(encoded)):
            yield self.batch(encoded, indices)

    def score(
        self, model: PreTrainedModel, encoded: EncodedPairs, *, encoder_states: EncoderStates | None = None
    ) -> pd.DataFrame:
        """Score every example; a row each, in their order (see `nvreg.tasks.Task`).

        In float32 a metric over a data set is independent of the size of batches to 1e-6, as long as no two
        next tokens are so close in likelihood that the rounding of a batch decides between them.
        """
        import torch

        from nvreg.models.teacher_forcing import decoder_inputs, on_device
        from nvreg.tasks.forward import ByRow, EncoderStates, check_finite, negative_log_likelihood

        if self._generates:
            check_generation(model, self._tokenizer, self._generation)
        kept = EncoderStates(0) if encoder_states is None else encoder_states
        runs_at_once = encoder_states is None and not self._generates
        totals = ByRow()
        predictions = [""] * len(encoded.targets)

        def run(indices: list[int]) -> None:
            batch = self.batch(encoded, indices)
            labels = batch.pop("labels")
            states = None if runs_at_once else kept.of_encoder(model, batch)
            inputs = on_device(model, batch)
            if self._scores_targets:
                read = {
                    "decoder_input_ids": decoder_inputs(model, labels),
                    "decoder_attention_mask": (labels != IGNORED).long(),
                }
                ids = inputs["input_ids"]
                nats = negative_log_likelihood(
                    model,
                    labels,
                    self._temperatures,
                    **({"input_ids": ids} if states is None else {"encoder_outputs": (states,)}),
                    attention_mask=inputs["attention_mask"],
                    **on_device(model, read),
                )
                totals.add(indices, nats.T)
            if states is not None and self._generates:
                for index, text in zip(indices, self._generate(model, inputs, states, indices), strict=True):
                    predictions[index] = text

        with torch.inference_mode():
            self._in_batches(self.lengths(encoded), run)
        nats = totals.whole(len(encoded.targets), len(self._temperatures)).T
        check_finite(nats.T)
        return self._frame(encoded, nats, predictions)

    def _generate(
        self, model: PreTrainedModel, inputs: Mapping[str, Tensor], states: Tensor, indices: Sequence[int]
    ) -> list[str]:
        """Generate for as many sources at a time as leave the budget to all their beams.

        Raises:
            NotFiniteError: if the scores of some next token are not finite.
        """
        rows = max(1, len(states) // self._generation.num_beams)
        texts: list[str] = []
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            of_part = {name: ids[part] for name, ids in inputs.items()}
            try:
                texts += generate(
                    model, self._tokenizer, of_part, states[part], self._generation, self._forced
                )
            except NotFiniteError as error:
                raise NotFiniteError(indices[start + error.example]) from None
        return texts

    def _frame(self, encoded: EncodedPairs, nats: Tensor, predictions: list[str]) -> pd.DataFrame:
        frame = pd.DataFrame({"id": range(len(predictions))})
        tokens, plain = map(len, encoded.targets), nats[self._temperatures.index(1)].tolist()
        if self._scores_targets:
            frame["likelihood"] = [list(row) for row in zip(plain, tokens, encoded.characters, strict=True)]
        if "text" in self._groups:
            frame["text"] = byte_and_word_statistics(plain, encoded.scored)
        if self._scores_targets and self._keeps_temperatures:
            frame["tempered"] = nats.T.tolist()
        if self._generates:
            frame["prediction"] = predictions
        of_texts = {metric.group: name for name in self._metrics if (metric := METRICS[name]).of_texts}
        for group, name in sorted(of_texts.items()):
            rows = text_statistics(name, predictions, encoded.references, self.tokenisation)
            frame[group] = rows.tolist()
        return frame


class Translation(SequenceToSequence):
    """Translation, from the column "source" to "target"."""

    name = "translation"
    overlap = "bleu"
    columns = ("source", "target")


class Summarisation(SequenceToSequence):
    """Summarisation, from the column "document" to "summary"."""

    name = "summarisation"
    overlap = "rougeL"
    columns = ("document", "summary")
