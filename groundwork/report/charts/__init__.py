"""Figures as pages show them: Vega-Lite read from matplotlib. Read `panels` first."""
