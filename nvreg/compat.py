"""What nvreg uses of other libraries that they do not promise to keep: all of it, and nothing else.

Each section names the version that it was checked on, and `tests/test_compat.py` has a test of each of its
members. Libraries are imported only where they are used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# --- torch 2.13 -----------------------------------------------------------------------------------


def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Run the flash kernel of the CPU, whose log-sum-exp no public function returns.

    It takes numbers in the last dimension for neighbours in memory, whatever the strides say.

    Args:
        query: shape (batch, heads, queries, e).
        key: shape (batch, key heads, keys, e).
        value: shape of key.
        mask: added to the logits, broadcastable to (batch, heads, queries, keys), or None.
        is_causal: query m sees keys 0..m only.
        scale: multiplies ``q . k``.

    Returns:
        The output, shape of query, and the log-sum-exp, shape (batch, heads, queries).
    """
    import torch

    query, key, value = [each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value)]
    output, lse = torch._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, is_causal, attn_mask=mask, scale=scale
    )
    return output, lse


def flash_attention_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Run the flash kernel of a GPU, in half precision; arguments and results as of `flash_attention`.

    It is cuDNN's where PyTorch would take that one: on Hopper and later. One query has PyTorch's own, as
    cuDNN makes a plan for every number of keys, and compiled code too, which cannot ask. Widths are alike,
    and multiples of 8.
    """
    import torch
    from torch.nn.attention import SDPBackend

    options: dict[str, Any] = {"dropout_p": 0.0, "is_causal": is_causal, "scale": scale}
    if query.shape[2] > 1 and not torch.compiler.is_compiling():
        choice = torch._fused_sdp_choice(query, key, value, enable_gqa=True, **options)
        if choice == SDPBackend.CUDNN_ATTENTION.value:
            output, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
                query, key, value, None, True, **options
            )
            return output, lse.squeeze(-1)
    output, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, **options)
    return output, lse


def efficient_attention(
    query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Run the memory-efficient kernel of a GPU.

    Args:
        query: shape (batch, heads, queries, e), where widths and strides are multiples of 8.
        key: shape (batch, heads, keys, e).
        value: shape (batch, heads, keys, f).
        bias: added to the logits, shape (batch, heads, queries, keys), in the dtype of the queries, or None.
        is_causal: query m sees keys 0..m only; together with a bias, too.
        scale: multiplies ``q . k``.

    Returns:
        The output, shape (batch, heads, queries, f), and the log-sum-exp, shape (batch, heads, rows), where
        rows are the queries and what pads them to a multiple of 32.
    """
    import torch

    output, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, 0.0, is_causal, scale=scale
    )
    return output, lse


def cuda_generation(device: torch.device) -> int:
    """Return the major compute capability of a GPU of NVIDIA's, 0 of others', whose kernels differ."""
    import torch

    return 0 if torch.version.hip else torch.cuda.get_device_properties(device).major


def has_triton() -> bool:
    """Whether code for the GPU can be compiled."""
    from torch.utils._triton import has_triton

    return has_triton()


def version(tensor: Tensor) -> tuple[int, int]:
    """Return what changes whenever a tensor is written to or has other memory.

    A write through ``.data`` changes nothing of it, nor does one to a tensor that was made in inference mode.
    """
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Return all tensors of a module, those within quantised ones too: either may be written to alone.

    It is asked at every forward, where ``parameters()`` takes several times as long.
    """
    tensors: list[Any] = []
    modules: list[Any] = [module]
    while modules:
        each = modules.pop()
        if each is not None:
            tensors += each._parameters.values()
            tensors += each._buffers.values()
            modules += each._modules.values()
    found: list[Tensor] = []
    while tensors:
        tensor = tensors.pop()
        if tensor is not None:
            found.append(tensor)
            if hasattr(tensor, "__tensor_flatten__"):
                tensors += [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    return found


def parameter(module: nn.Module, name: str) -> Any:
    """Return a parameter of a module, or None; it costs less than the attribute."""
    return module._parameters.get(name)


def child(module: nn.Module, name: str) -> Any:
    """Return a module right below a module; it costs less than the attribute."""
    return module._modules[name]


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks see, and may change, what a module is given or returns."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def remove_pre_hook_(module: nn.Module, number: int) -> None:
    """Remove the hook with a handle's number from a module, or from a copy, which no handle knows."""
    module._forward_pre_hooks.pop(number, None)


# --- transformers 5.23 ----------------------------------------------------------------------------


def attention_implementation(config: Any) -> str | None:
    """Return which implementation of attention a model runs, such as ``sdpa``."""
    return config._attn_implementation


def set_attention_implementation_(config: Any, implementation: str | None) -> None:
    """Have a model run an implementation of attention that it ran before, without checks."""
    config._attn_implementation = implementation


@functools.cache
def naming_attention(config_class: Any, implementation: str) -> Any:
    """Return a subclass of a class of configs whose instances name that implementation of attention."""
    names = {"__module__": config_class.__module__, "_attn_implementation": implementation}
    return type(config_class.__name__, (config_class,), names)


def is_cross_cached(cache: Any, layer: int) -> bool:
    """Whether the cache of an encoder-decoder model has the encoder's keys of a layer."""
    return bool(cache.is_updated.get(layer))


def note_cross_cached_(cache: Any, layer: int) -> None:
    """Tell the cache of an encoder-decoder model that it has the encoder's keys of a layer."""
    cache.is_updated[layer] = True


def quantises(layer: Any) -> bool:
    """Whether one layer of a cache rounds the keys that it keeps."""
    return hasattr(layer, "_quantize")


# --- accelerate 1.15 ------------------------------------------------------------------------------

KEPT_FORWARDS = ("_old_forward", "forward")
"""Where accelerate keeps a module's own forward, on the module: while a hook wraps it, and then."""


def held_by(module: nn.Module) -> dict[str, Any]:
    """Return what a module holds beside what all modules do, without what hooks of accelerate put there."""
    held = {name: value for name, value in vars(module).items() if name not in _held_by_all()}
    is_hooked = held.pop("_hf_hook", None) is not None
    for name in KEPT_FORWARDS:
        is_own = held.get(name) == MethodType(type(module).forward, module)
        if is_own or (is_hooked and name == "forward"):
            held.pop(name, None)
    return held


@functools.cache
def _held_by_all() -> frozenset[str]:
    from torch import nn

    return frozenset(vars(nn.Module()))


def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    """Replace a module's ``forward``, whose signature stays, and return what undoes that.

    One that accelerate has put on the module comes back.
    """
    own = vars(module).get("forward")
    vars(module)["forward"] = functools.wraps(module.forward)(forward)

    def revert() -> None:
        del vars(module)["forward"]
        if own is not None:
            vars(module)["forward"] = own

    return revert


def device_of_hook(module: nn.Module) -> Any:
    """Return the device that a hook of accelerate runs a module on; None where there is no such hook."""
    return getattr(getattr(module, "_hf_hook", None), "execution_device", None)


# --- peft 0.21 ------------------------------------------------------------------------------------


def is_lora(module: nn.Module) -> bool:
    """Whether a module is LoRA around a linear one; peft is not imported for those who do not have it."""
    kind: Any = type(module)
    return _is_lora(kind)


@functools.cache
def _is_lora(kind: Any) -> bool:
    places = [(base.__module__, base.__name__) for base in kind.__mro__]
    return ("peft.tuners.lora.layer", "Linear") in places


# --- sacrebleu 2.6 --------------------------------------------------------------------------------


def corpus_statistics(
    metric: Any, predictions: Sequence[str], references: Sequence[str]
) -> list[list[int | float]]:
    """Return the sufficient statistics of every sentence, which its public functions add up.

    Args:
        metric: a metric of sacrebleu, such as ``BLEU()``.
        predictions: one a sentence.
        references: one a sentence.
    """
    return metric._extract_corpus_statistics(predictions, [references])
