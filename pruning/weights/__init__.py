"""The command for single weights: train, prune, fine-tune; or prune while a network trains.

Read `methods.METHODS` first, then `work.sweep`.
"""
