"""Defaults that every lowrank config starts from: each key is here, with what it means.

The sections that all experiments share are in `configs/base.py`.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """A sweep over budgets, on a network that is trained first; everything overrides some of it."""
    config = base.get_config()
    config.model = dict(name="lenet_300_100", width=1.0, dtype="float32")
    config.source = dict(
        path="",  # a run's folder or an .npz file to take the network from; "" = train it
        unit="levels/00/ticket",  # of that run
    )
    config.predict = ()  # layers, such as ("fc1",): how well do a few weights predict the rest?
    config.decompose = dict(
        methods=("svd",),  # a sweep each: svd, svd_outputs, spatial, tucker, cp, any
        ranks="budget",  # budget, energy, vbmf
        shares=(0.5, 0.33, 0.2),  # of the dense layers' cost; of the energy, for ranks=energy
        measure="macs",  # what budgets count: macs, parameters, milliseconds
        leave=(),  # patterns of layers that are left alone
        keep_slow=False,  # factorise layers also where that is not faster on this machine
        scratch=False,  # train each plan from its decomposed initialisation too
        frobenius_decay=0.0,  # on the reassembled kernels; beside it, weight_decay is to be 0
    )
    config.fine_tune = dict(steps=200, batch_size=100)
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(learning_rate=3e-4, schedule="cosine")
    return config
