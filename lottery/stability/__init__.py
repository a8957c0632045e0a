"""The command for stability: are two copies of a network, trained apart, linearly connected?

Read `work.measure` first.
"""
