"""From sources of text to examples, and from examples to padded batches."""

from nvreg.data.batching import batches, model_inputs, pad
from nvreg.data.columns import Record
from nvreg.data.examples import Examples, load_examples

__all__ = ["Examples", "Record", "batches", "load_examples", "model_inputs", "pad"]
