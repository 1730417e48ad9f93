"""The start: an experiment file from a model and some data, by looking at both."""
