"""What is taken away from a network, and how: masks, criteria, schedules, whole units."""
