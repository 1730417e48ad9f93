"""How strongly a setting regularises, measured while a model runs (docs/method.md, section 6)."""

from nvreg.diagnostics.by_head import QUANTITIES, measure_heads
from nvreg.diagnostics.record import Record, SiteMeans, recording

__all__ = ["QUANTITIES", "Record", "SiteMeans", "measure_heads", "recording"]
