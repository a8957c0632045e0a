"""What is removed from a network, and how: masks, criteria, schedules, whole units."""
