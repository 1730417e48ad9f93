"""Ways to give attention a prior, timed beside plain attention: python -m benchmarks.alternatives.

One site of 12 heads of 64 dimensions, 2 rows, float32, without projections: the log-sum-exp of the flash
kernel as the prior's gate, which is what runs, and the prior as one more key and value, which needs a copy of
both and, where attention is causal, a map of what each query sees.
"""

from __future__ import annotations

import statistics

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import interleaved, ratio
from nvreg.attention.kernel import attention_with_lse

ROUNDS = 7
ROWS, HEADS, HEAD_DIM = 2, 12, 64
SCALE = HEAD_DIM**-0.5


def main() -> None:
    """Print a table: milliseconds of plain attention, and the ratio to it."""
    names = ["log-sum-exp", "one more key"]
    print("| attention | tokens | plain, ms | " + " | ".join(names) + " |")
    print("|---" * (3 + len(names)) + "|")
    for is_causal in (True, False):
        for length in (512, 1024, 2048):
            time_length(length, names, is_causal=is_causal)


def time_length(length: int, names: list[str], *, is_causal: bool) -> None:
    """Print the row of one length: causal without biases, or bidirectional with a bias a key."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, ROWS, HEADS, length, HEAD_DIM, generator=generator)
    bias = None if is_causal else torch.randn(ROWS, 1, 1, length, generator=generator)
    prior_key, prior_value = torch.randn(2, 1, HEADS, 1, HEAD_DIM, generator=generator)
    logit = SCALE * query @ prior_key.transpose(-1, -2)

    def gated(output: Tensor, lse: Tensor) -> Tensor:
        return torch.lerp(output, prior_value, torch.sigmoid(logit - lse.unsqueeze(-1)))

    def plain() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)

    def log_sum_exp() -> Tensor:
        attended = attention_with_lse(query, key, value, SCALE, bias=bias, is_causal=is_causal)
        return gated(attended.output, attended.lse)

    def one_more_key() -> Tensor:
        keys, values = (
            torch.cat([first.expand(ROWS, -1, -1, -1), rest], dim=2)
            for first, rest in ((prior_key, key), (prior_value, value))
        )
        if bias is None:
            seen = torch.ones(length, length + 1, dtype=torch.bool).tril(1)
            return F.scaled_dot_product_attention(query, keys, values, attn_mask=seen)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=F.pad(bias, (1, 0)))

    ways = dict(zip(names, (log_sum_exp, one_more_key), strict=True))
    with torch.inference_mode():
        expected = log_sum_exp()
        for name, way in ways.items():
            torch.testing.assert_close(way(), expected, rtol=1e-4, atol=1e-4, msg=name)
        seconds = interleaved({"plain": plain, **ways}, ROUNDS)
    base = seconds["plain"]
    cells = " | ".join(str(ratio(seconds[name], base)) for name in names)
    kind = "causal" if is_causal else "bias a key"
    print(f"| {kind} | {length} | {1000 * statistics.median(base):.0f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
