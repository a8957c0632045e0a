"""Functions of numpy arrays from engines' files: a module for each engine, each with `load`.

Nothing here imports JAX: numpy and the engine are all that these modules need.
"""
