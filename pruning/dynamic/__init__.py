"""What changes, or is summed up, while a network trains."""
