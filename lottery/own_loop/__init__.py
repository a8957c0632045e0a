"""The levels of lottery tickets for a training of your own. Read `loop.iterate` first."""
