"""Speed and memory of NV attention beside the unconverted model: ``make bench``."""
