"""One file an attention layout of Transformers; each shows what differs and nothing else."""
