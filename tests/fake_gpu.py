"""Tensors that say they are on a GPU, where there is none, and what must not happen to them."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend
from torch.nn.attention.flex_attention import AuxOutput
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from nvreg import compat
from nvreg.attention import gpu

WAITS = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.equal,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.unique_consecutive,
    torch.ops.aten._unique2,
}
"""Operators that wait for a GPU, as their result, or its shape, is known to it alone."""


COPIES = {torch.ops.aten._to_copy, torch.ops.aten.copy_}
"""Operators that copy between devices, which a CUDA graph does not hold."""


class NothingReachesTheHost(TorchDispatchMode):
    """Fails where anything waits for the GPU, or copies from it; switched off while ``watching`` is False.

    While ``capturing`` is True, it fails where anything copies to the GPU too.
    """

    def __init__(self):
        super().__init__()
        self.watching, self.capturing = True, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        packet = getattr(function, "overloadpacket", None)
        if self.capturing and packet in COPIES:
            assert len({each.device.type for each in (output, *given)}) == 1, f"{function} copies to the GPU"
        if self.watching and any(is_on_gpu(each) for each in given):
            assert packet not in WAITS, f"{function} waits for the GPU"
            copies = [each for each in tree_leaves(output) if isinstance(each, torch.Tensor)]
            assert all(map(is_on_gpu, copies)), f"{function} copies from the GPU"
            indices = args[1] if packet in (torch.ops.aten.index, torch.ops.aten.index_put_) else []
            assert not any(each is not None and each.dtype == torch.bool for each in indices), (
                f"{function} waits for how many are True"
            )
        return output


def is_on_gpu(value):
    return isinstance(value, torch.Tensor) and value.device.type == "cuda"


def pretend_gpu(patch):
    """Have what asks for a GPU find one of NVIDIA's newest, on which nothing is compiled."""
    patch.setattr(compat, "cuda_generation", lambda device: 9)
    patch.setattr(compat, "has_triton", lambda: True)
    patch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    patch.setattr(torch, "_fused_sdp_choice", lambda *_, **__: SDPBackend.FLASH_ATTENTION.value)
    patch.setattr(gpu, "_causal_blocks", gpu._causal_blocks.__wrapped__)
    patch.setattr(gpu, "_compiled", lambda function: _flex if function is gpu.flex_attention else function)


def _flex(query, key, value, *, score_mod, block_mask, scale, enable_gqa, kernel_options, return_aux):
    """Return what flex_attention does, by shape and dtype; what it is given is read once."""
    assert key.shape[:3] == value.shape[:3]
    assert query.shape[1] == key.shape[1] or enable_gqa
    assert block_mask is None or block_mask.shape == (1, 1, query.shape[2], key.shape[2])
    places = [torch.zeros((), dtype=torch.int32, device=query.device) for _ in range(4)]
    score = score_mod(torch.zeros((), device=query.device), *places)
    assert (score.shape, score.dtype) == ((), torch.float32)
    lse = torch.empty(query.shape[:3], device=query.device)
    return query.new_empty(*query.shape[:3], value.shape[-1]), AuxOutput(lse=lse)


def on_fake_gpu(modes, values, device="cuda"):
    """Return the tensors among values as fake ones on a GPU, laid out as they are.

    Args:
        modes: an exit stack, on which the modes are that such tensors need.
        values: nested tuples, lists and mappings, anything else as it is.
        device: the GPU.
    """
    modes.enter_context(FakeTensorMode())
    modes.enter_context(_Indexing())

    def moved(value):
        if not isinstance(value, torch.Tensor):
            return value
        size = value.untyped_storage().nbytes() // value.element_size()
        flat = torch.empty(size, dtype=value.dtype, device=device)
        return flat.as_strided(value.shape, value.stride(), value.storage_offset())

    return tree_map(moved, values)


class _Indexing(TorchFunctionMode):
    """Indexes tensors by operators: the code that brackets run needs a build of torch for the device."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.__getitem__:
            view, indices = _sliced(*args)
            return torch.ops.aten.index.Tensor(view, indices) if indices else view
        if function is torch.Tensor.__setitem__:
            view, indices = _sliced(*args[:2])
            value = args[2] if isinstance(args[2], torch.Tensor) else view.new_full((), args[2])
            return view.index_put_(tuple(indices), value) if indices else view.copy_(value)
        return _AS_OPERATORS.get(function, function)(*args, **(kwargs or {}))


_AS_OPERATORS = {
    torch.Tensor.__invert__: torch.bitwise_not,
    torch.Tensor.contiguous: lambda tensor: tensor.clone(memory_format=torch.contiguous_format),
}


def _sliced(tensor, index):
    """Return a view by all of an index but its tensors, and these, each at the dimension it is for."""
    index = index if isinstance(index, tuple) else (index,)
    dots = next((place for place, each in enumerate(index) if each is ...), len(index))
    behind = sum(each.ndim if _is_bool(each) else each is not None for each in index[dots + 1 :])
    dim, tensors = 0, {}
    for each in index:
        if each is None:
            tensor, dim = tensor.unsqueeze(dim), dim + 1
        elif each is ...:
            dim = tensor.ndim - behind
        elif isinstance(each, slice):
            tensor = torch.ops.aten.slice.Tensor(tensor, dim, each.start, each.stop, each.step or 1)
            dim += 1
        elif isinstance(each, torch.Tensor):
            tensors[dim] = each
            dim += each.ndim if _is_bool(each) else 1
        else:
            tensor = tensor.select(dim, each)
    return tensor, [tensors.get(each) for each in range(max(tensors) + 1)] if tensors else []


def _is_bool(index):
    return isinstance(index, torch.Tensor) and index.dtype == torch.bool
