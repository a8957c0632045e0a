"""Engines' files from a graph: a module for each form of file, each with `write`."""
