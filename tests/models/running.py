"""How tests choose and convert a model, pad its inputs and generate with it."""

import pytest
import torch

import nvreg
from nvreg.models.registry import layouts
from tests.models.architectures import (
    ARCHITECTURES,
    IN_HEAD_SPACE,
    PAD,
    random_ids,
    random_prior,
    random_settings,
)
from tests.models.definition import run_definition_ as run_input_definition_
from tests.models.head_definition import run_head_definition_

EXACT = {"rtol": 1e-10, "atol": 1e-10}
FLOAT32 = {"rtol": 1e-3, "atol": 1e-3}


def converted(model, settings=None):
    settings = random_settings(model) if settings is None else settings
    return nvreg.convert_(model, random_prior(model), settings)


def run_definition_(model, prior, settings):
    """Have an unconverted model run the definition of the prior's space, in place."""
    run = run_head_definition_ if prior.space == "heads" else run_input_definition_
    return run(model, prior, settings)


def generate(model, inputs, **options):
    inputs = {name: tensor for name, tensor in inputs.items() if name != "decoder_input_ids"}
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, **options}
    torch.manual_seed(0)
    return model.generate(**inputs, **options).tolist()


def padded(architecture, side):
    """Three rows of 7, 4 and 2 tokens in one batch, and each alone; sound is never padded."""
    if architecture.model_type == "whisper":
        batch = architecture.inputs(architecture.build())
        rows = range(len(batch["input_features"]))
        return batch, [{name: each[row : row + 1] for name, each in batch.items()} for row in rows]
    ids = random_ids(3, 7)
    mask = torch.ones_like(ids)
    alone = []
    for row, length in enumerate((7, 4, 2)):
        kept = slice(0, length) if side == "right" else slice(7 - length, 7)
        mask[row] = 0
        mask[row, kept] = 1
        alone.append({"input_ids": ids[row : row + 1, kept]})
    batch = {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask}
    if architecture.is_encoder_decoder:
        decoder_ids = random_ids(3, 5, seed=1)
        batch["decoder_input_ids"] = decoder_ids
        for row, single in enumerate(alone):
            single["decoder_input_ids"] = decoder_ids[row : row + 1]
    return batch, alone


def real(tensor, mask):
    """What a tensor (batch, tokens, ...) holds of the tokens that a mask marks, in one dimension."""
    return tensor.flatten(0, 1) if mask is None else tensor[mask]


QUICK = {
    *("bart", "nllb-moe", "whisper", "t5", "umt5", "bert to gpt2"),
    *("bert", "mpnet", "albert", "modernbert", "distilbert"),
    *("gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "falcon grouped", "falcon alibi"),
    *("llama", "llama yarn", "mistral sliding", "phi3 longrope", "ernie4_5_moe", "cohere"),
    *("opt", "xglm", "qwen3", "gemma2", "t5 heads"),
}
"""One of each form, which the default suite runs in whole; the slow suite runs the others."""


def each_of(architectures):
    """Make parameters of architectures, of which those that repeat a form are slow."""
    return [
        pytest.param(each, id=each.name, marks=[] if each.name in QUICK else pytest.mark.slow)
        for each in architectures
    ]


def of(*names, slow=()):
    """Run a test on architectures by name."""
    named = {architecture.name: architecture for architecture in (*ARCHITECTURES, *IN_HEAD_SPACE)}
    quick = [pytest.param(named[name], id=name) for name in names]
    late = [pytest.param(named[name], id=name, marks=pytest.mark.slow) for name in slow]
    return pytest.mark.parametrize("architecture", quick + late)


ONE_A_LAYOUT = [
    next(architecture.name for architecture in ARCHITECTURES if architecture.model_type in model_types)
    for model_types in layouts().values()
]
OTHERS_IN_HEAD_SPACE = [
    "gpt_oss",
    "deepseek_v3",
    "albert heads",
    "gemma2",
    "gemma3",
    "olmo2",
    "modernbert heads",
    "t5 heads",
    "bart heads",
    "gpt2 heads",
]
of_every_layout = of(*ONE_A_LAYOUT, "qwen3", slow=OTHERS_IN_HEAD_SPACE)


def of_every_layout_but_quickly(*names):
    """Run a slow test on every layout, and in the default suite on these."""
    others = [*ONE_A_LAYOUT, "qwen3", *OTHERS_IN_HEAD_SPACE]
    return of(*names, slow=[name for name in others if name not in names])
