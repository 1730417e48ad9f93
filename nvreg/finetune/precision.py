"""The arithmetic that a machine trains in."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """Whether products and sums are in bfloat16, and in words what they are in and why."""

    bfloat16: bool
    description: str


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Return bfloat16 where the hardware has it, unless something else is wanted.

    Args:
        wanted: auto, float32 or bfloat16.
        device: that the model is on.
    """
    if wanted != "auto":
        return Precision(wanted == "bfloat16", f"{wanted}, as asked for")
    instructions = _instructions(device)
    if instructions is None:
        return Precision(False, f"float32, as this {device.type} has no instructions for bfloat16")
    return Precision(True, f"bfloat16 by {instructions}, weights in float32")


def _instructions(device: torch.device) -> str | None:
    if device.type == "cuda":
        has_them = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name(device) if has_them else None
    if device.type != "cpu":
        return None
    capabilities = torch.cpu.get_capabilities()
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
    return next((name for flag, name in known.items() if capabilities.get(flag)), None)
