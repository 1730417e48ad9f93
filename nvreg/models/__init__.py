"""The bridge to Transformers: which modules are attention sites, and how to convert them in place."""
