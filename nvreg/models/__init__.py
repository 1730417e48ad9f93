"""The bridge to Transformers: which modules are attention sites, and how to convert them in place."""

IGNORED = -100
"""The label of what is not scored, padding above all, as in Transformers."""
