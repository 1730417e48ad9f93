"""Reads sources of text as examples, and makes padded batches of them."""

from nvreg.data.batching import batches, model_inputs, pad
from nvreg.data.columns import Record
from nvreg.data.examples import Examples, load_examples

__all__ = ["Examples", "Record", "batches", "load_examples", "model_inputs", "pad"]
