"""Defaults that every deploy config starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share. `python -m deploy.main --source=RUN`
without a config takes this one, with the data of that run.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns one network on all engines that are installed, as floats and as 8-bit integers."""
    config = base.get_config()
    config.replicates = 1  # of a network that is trained here; one of them is exported
    config.model = dict(
        name="lenet_300_100",  # a network of groundwork.architectures, or PACKAGE:NETWORK
        width=1.0,  # times the layers' usual units or channels
        dtype="float32",  # of what layers compute, or bfloat16; parameters stay float32
        # settings of the network, such as {"groups": 8}; of your own, what it is built with
        kwargs=base.anything({}),
        call=base.anything({}),  # how it is called: {"train": {…}, "eval": {…}}; {} finds out
    )
    config.source = dict(
        # the folder of a run of any command, a .cna file, or a file of weights for `model`; ""
        # trains `model` for train.steps, and 0 steps leave it as its init gives it
        path="",
        # of a run: a pattern of its units, such as pruned/*; "" takes the usual ones: the last
        # ticket, or all networks, or the original and the last stage's
        unit="",
        replicate=0,  # of a run, from 0
    )
    # onnxruntime, litert, ncnn, openvino or coreml; () takes all that are installed
    config.engines = ()
    config.kinds = ("float", "int8")  # of the files
    config.threads = (1, 2)  # each engine computes on so many, pinned to as many processors
    config.batches = (1,)  # examples of a call; each has files of its own
    config.calibration = dict(
        # of training, from which int8 gets the ranges of all values; what lies beyond them later is
        # clipped, so that more examples lose less of rare large logits
        examples=200,
        range="minmax",  # minmax, moving, percentile or mse
        # whether biases make up for the mean errors of integers, layer by layer, on these examples
        correct_biases=False,
    )
    config.measure = dict(
        rounds=7,  # in which all engines take turns
        seconds=0.1,  # of calls of each engine in a round
        warmup_seconds=0.2,  # of calls before the first round
        limit_seconds=120.0,  # an engine that does not answer for so long has failed
        examples=0,  # of test, by which outputs are judged; 0 takes all
    )
    config.log.graph = False  # also write each network's graph as a table and a picture
    return config
