"""Defaults that every config of a search starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns a search for the most accurate network of 20 kB."""
    config = base.get_config()
    config.data.validation_examples = 200  # by which candidates are judged: not 0
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
    config.evaluations = 24  # candidates; more of them extend a finished run
    config.budget = dict(  # what the network may cost at most; 0: anything
        bytes=20_000,  # of its file
        multiply_adds=0,  # of one example
        parameters=0,  # that are not pruned
        milliseconds=0.0,  # of one example, on the engine
        memory_bytes=0,  # of weights and of the largest activations
        engine="",  # onnxruntime, litert, ncnn, openvino or coreml; "" measures JAX itself
        threads=1,  # of the engine
    )
    config.accuracy = dict(
        # in place of budgets: the most that the accuracy (or the metric of the loss) on validation
        # may lose, such as 0.005, at the least cost; -1: budgets say what is asked
        loss=-1.0,
        cost="bytes",  # the cost that is then the least, by the name of its budget
    )
    config.space = dict(  # what is proposed for each layer; () leaves a kind out
        units=(),  # shares of a group's units that stay, such as (0.75, 0.5)
        criterion="l2",  # what ranks units, such as l1, l2, scale, taylor or activation
        methods=(),  # of low rank: svd, svd_outputs, spatial, tucker or cp
        ranks=(),  # shares of the full rank, such as (0.5, 0.25, 0.1)
        densities=(0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.06, 0.04, 0.03, 0.02),  # of the weights
        bits=(6, 5, 4, 3, 2),  # of a kernel's weights
        activation_bits=(),  # of layers' inputs, such as (8, 6)
        leave=(),  # patterns of layers that are left alone
    )
    config.search = dict(
        sampler="nsga2",  # nsga2, tpe or random: what proposes choices after the first ones
        population=8,  # candidates of a generation
        screened=8,  # proposals for each, of which the additive model takes one
        # the first choices are analytic ones, for budgets times these
        around=(6.0, 3.0, 1.7, 1.0, 0.7),
        uniform=3,  # uniform settings among the first candidates, to compare with
        # random draws all choices, and sampler asks the sampler alone, both without sensitivities:
        # searches of equal cost to compare with
        control="",
        # updates of a round; codebooks are trained for as many before a judgment. 0: biases make
        # up for the mean errors of rounded weights, and nothing is trained
        steps=100,
        rungs=(2, 4),  # rounds after which a candidate is judged; the best go on to the next
        promoted=0.34,  # the share that does
        finalists=3,  # candidates that fine_tune trains for longer; the best of them is chosen
        seconds=0.0,  # of all candidates, after which none is begun; 0: no limit
        examples=1024,  # of training, on which sensitivities are measured
        baselines=(),  # finished runs of compress, which the report shows beside the search
        # a RUN/choice.json whose network is made again, with evaluations=0
        choice="",
        parallel=1,  # candidates at the same time, none of which knows how the others end
        board="",  # a folder where several runs of this search share their units
        member=0,  # tells these runs apart: --set search.member=0,1,2 of launch.sweep
    )
    config.quantize = dict(  # see the configs of compress
        other_bits=8,  # of biases and BatchNorm's scales; 0 keeps float32
        activation_range="minmax",  # minmax, moving, percentile or mse
        rate=0.0,  # what a bit of the file costs, such as 0.02: weights may become zero for it
        rate_importance="none",  # or gradients: errors count by their squares
    )
    config.fine_tune = dict(
        steps=400,  # updates of each finalist, and as many of its codebooks; 0: none
        batch_size=100,  # examples of a step, of each replicate; also of candidates
    )
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(schedule="cosine")  # of each round; also of candidates
    return config
