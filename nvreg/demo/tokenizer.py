"""Tokenizers of the demo: byte-pair encoding of a task's own texts."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from nvreg.demo.records import Record

PAD, END, UNKNOWN, START, MASK = SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>", "<s>", "<mask>")
"""Their ids are 0 to 4."""
FRAMES = {
    "translation": f"$A {END}",
    "classification": f"{START} $A {END}",
    "language-modelling": f"{START} $A",
    "summarisation": f"$A {END}",
}
"""What is put around a text."""

POSITIONS = 512
"""Tokens that the models read: the longest sagas have half as many."""


def train_tokenizer(records: Sequence[Record], task: str, vocabulary: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer of a task's model on all texts of its corpus."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator((text for record in records for text in record.values()), trainer)
    ids = [(token, SPECIAL_TOKENS.index(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=FRAMES[task], special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        bos_token=START,
        mask_token=MASK,
        model_max_length=POSITIONS,
    )
