"""From a model and text to its prior and to calibrated settings."""
