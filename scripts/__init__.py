"""What the Makefile runs on the committed results: `compare` checks them, `readme` quotes them."""
