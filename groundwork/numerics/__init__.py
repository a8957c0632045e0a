"""Arrays that users hand in, and choices under a budget."""
