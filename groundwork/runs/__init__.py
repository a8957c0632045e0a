"""A run is a folder: its units of work, its rows, its identity."""
