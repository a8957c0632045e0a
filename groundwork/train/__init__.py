"""Steps, loops and compiled programs: how networks are trained."""
