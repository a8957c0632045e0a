"""Defaults that every lowrank config starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns a sweep over budgets, on a network that is trained first."""
    config = base.get_config()
    config.model = dict(
        name="lenet_300_100",  # a network of groundwork.architectures, or PACKAGE:NETWORK
        width=1.0,  # times the layers' usual units or channels
        dtype="float32",  # of what layers compute, or bfloat16; parameters stay float32
        # settings of the network, such as {"groups": 8}; of your own, what it is built with
        kwargs=base.anything({}),
        call=base.anything({}),  # how it is called: {"train": {…}, "eval": {…}}; {} finds out
    )
    config.source = dict(
        path="",  # a run's folder or a file of weights, such as .safetensors; "" trains it
        unit="levels/00/ticket",  # the unit of that run
    )
    config.predict = ()  # layers, such as ("fc1",), where a few weights are to predict the rest
    config.decompose = dict(
        methods=("svd",),  # one sweep for each: svd, svd_outputs, spatial, tucker, cp, any
        ranks="budget",  # how they are chosen: budget, energy or vbmf
        shares=(
            0.5,
            0.33,
            0.2,
        ),  # kept, of the dense layers' cost, or of the energy for ranks=energy
        measure="macs",  # what budgets count: macs, parameters or milliseconds
        leave=(),  # patterns of layers that are left alone
        keep_slow=False,  # also factorise layers where that is not faster on this machine
        scratch=False,  # also train each plan from its decomposed initialisation
        frobenius_decay=0.0,  # weight decay on the reassembled kernels; weight_decay must then be 0
    )
    config.fine_tune = dict(
        steps=200,  # updates of a network that was changed
        batch_size=100,  # examples of a step, of each replicate
    )
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(learning_rate=3e-4, schedule="cosine")
    return config
