"""The stages of a pipeline, one file for each."""
