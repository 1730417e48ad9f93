"""How strongly a setting regularises, measured while a model runs (docs/method.md, section 6)."""

from nvreg.diagnostics.heads import QUANTITIES, measure_heads
from nvreg.diagnostics.record import Record, recording

__all__ = ["QUANTITIES", "Record", "measure_heads", "recording"]
