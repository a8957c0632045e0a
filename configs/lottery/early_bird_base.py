"""Defaults that the configs of early-bird tickets start from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns the search for half of a small network's channels, in 12 epochs of 15 steps."""
    config = base.get_config()
    config.eval_every = 90
    config.model = dict(
        name="plain_small",  # a network of groundwork.architectures, or PACKAGE:NETWORK
        width=0.5,  # times the layers' usual units or channels
        dtype="float32",  # of what layers compute, or bfloat16; parameters stay float32
        # settings of the network, such as {"groups": 8}; of your own, what it is built with
        kwargs=base.anything({}),
        call=base.anything({}),  # how it is called: {"train": {…}, "eval": {…}}; {} finds out
    )
    config.train.steps = 180  # of the dense network
    config.early_bird = dict(
        masks="channels",  # by the scales of BatchNorm; or weights, by magnitude
        ratio=0.5,  # the share of the channels or weights that goes
        scope="global",  # what is ranked together: global (all), or layerwise
        every=15,  # steps of an epoch, after each of which a mask is drawn; any number serves
        threshold=0.1,  # the ticket is drawn when the last distances are all below it
        patience=5,  # how many distances these are
        penalty=1e-4,  # of the dense training: times the sum of the absolute scales
        bits=32,  # of weights and gradients in the dense training, such as 8; 32 rounds nothing
    )
    config.controls = dict(
        reinit=True,  # also train the ticket's mask from new weights
        random=True,  # also train as many channels or weights of each layer, drawn at random
        late=True,  # also draw a ticket at the end of the dense training, and train it as long
    )
    config.fine_tune = dict(
        steps=90,  # updates of a network that was drawn
        batch_size=100,  # examples of a step, of each replicate
    )
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(schedule="cosine")
    return config
