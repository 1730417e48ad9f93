"""Reads sources of text as examples, and makes padded batches of them."""

from nvreg.data.batching import batches, model_inputs, pad
from nvreg.data.columns import Record
from nvreg.data.examples import NO_LABEL, Examples, load_examples

__all__ = ["NO_LABEL", "Examples", "Record", "batches", "load_examples", "model_inputs", "pad"]
