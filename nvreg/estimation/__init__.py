"""Estimates the prior of a model from text, and solves for calibrated settings."""
