"""One file a fine-tuning method: what it does to a model while it is trained, and how that is undone."""
