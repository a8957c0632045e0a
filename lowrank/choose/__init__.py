"""Which method and rank each layer gets."""
