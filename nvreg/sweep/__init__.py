"""Sweeps: which settings are tried, how they are measured and what is kept."""
