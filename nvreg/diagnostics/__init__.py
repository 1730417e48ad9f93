"""How strongly a setting regularises, measured while a model runs (docs/method.md, section 6)."""

from nvreg.diagnostics.heads import QUANTITIES, measure_heads
from nvreg.diagnostics.record import Record, Share, recording

__all__ = ["QUANTITIES", "Record", "Share", "measure_heads", "recording"]
