"""Making the demo: corpora, and models trained on them."""

from __future__ import annotations

from pathlib import Path

from nvreg.demo.corpus import read_pairs, write_corpora
from nvreg.demo.domains import IN_DOMAIN
from nvreg.demo.progress import training_progress
from nvreg.demo.recipe import FULL, Recipe
from nvreg.demo.staging import is_made, staged


def build_demo(directory: Path, seed: int = 0, recipe: Recipe = FULL) -> None:
    """Write ``translation/<domain>/<split>.jsonl`` and ``translation/model`` under ``directory``, once.

    The corpora depend on seed and recipe alone; the model, to rounding, on the machine too.

    Raises:
        UserError: if the directory cannot be written, or holds a ``translation`` that was not made here.
    """
    translation = directory / "translation"
    stamp = recipe.digest(seed)
    if is_made(translation, stamp):
        print(f"{translation} is complete: nothing to do")
        return
    with staged(translation, stamp) as aside:
        write_corpora(aside, seed, recipe)
        loss = _train(aside, seed, recipe)
    print(f"wrote {translation}: validation loss in domain {loss:.3f} nats a token")


def _train(translation: Path, seed: int, recipe: Recipe) -> float:
    """Train on the in-domain corpus, save the checkpoint and return its validation loss."""
    from nvreg.demo.translator import train_tokenizer, train_translator, validation_loss

    in_domain = translation / IN_DOMAIN.name
    pairs = read_pairs(in_domain / "train.jsonl")
    tokenizer = train_tokenizer(pairs, recipe.vocabulary)
    with training_progress(recipe.steps) as advance:
        model = train_translator(pairs, tokenizer, recipe, seed, advance)
    tokenizer.save_pretrained(translation / "model")
    model.save_pretrained(translation / "model")
    return validation_loss(model, tokenizer, read_pairs(in_domain / "validation.jsonl"))
