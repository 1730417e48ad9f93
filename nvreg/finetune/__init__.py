"""Plain and regularised fine-tuning: methods that change training and leave a plain checkpoint."""
