"""NV attention on tensors (docs/method.md, sections 2 to 5): torch alone, nothing of Transformers."""
