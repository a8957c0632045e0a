"""What do fewer weights cost? All configs of single weights start from this one, without files.

    python -m pruning.main --config=configs/pruning/weights.py --workdir=runs/weights

LeNet-300-100 on scikit-learn's 8×8 digits keeps a fifth and a twentieth of its weights, by their
magnitudes, and is fine-tuned, in three replicates. `configs/base.py` has the sections that all
experiments share.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
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
    config.prune = dict(
        # one_shot and iterative prune the trained network and fine-tune it; before_training,
        # static, set, rigl, gradual, straight_through, proximal_l1 and proximal_l2 train a new one
        method="one_shot",
        density=base.anything((0.2, 0.05)),  # kept share of the weights; several make several
        # What ranks weights: magnitude, l1, l2, lamp or random; of a training: magnitude_increase,
        # magnitude_increase_same_sign, large_final_same_sign, distance or movement; of examples:
        # snip, taylor, grasp, obd, synflow, wanda or obs
        criterion="magnitude",
        # which layer keeps how many: layerwise (all the same share), erdos_renyi,
        # erdos_renyi_kernel (fewer of large layers), or global: ranked together
        scope="layerwise",
        # for hardware: 2:4, 4:8 (which are the density, too), or blocks: 1x4, 4x4, 16x16; or
        # output: as many weights of each output, as Wanda ranks them
        pattern="none",
        prunable=("*kernel",),  # patterns of the paths that may be pruned
        iterations=3,  # of iterative, and of a search: how often it is pruned and fine-tuned
        correct=False,  # of obs, after training: the weights that stay make up for the others
        begin=0.0,  # of gradual: the share of the training before the mask changes
        end=0.75,  # of gradual, set, rigl: the share of the training after which it stays
        every=20,  # likewise: steps between two changes
        drop=0.3,  # of set, rigl: the share of a layer's weights that changes; falls by a cosine
        # of proximal_l1: what |w| shrinks by at each step; of proximal_l2 the share, about; several
        # make several networks
        strength=base.anything(1e-5),
        threshold=1e-2,  # of proximal_l2: below which weights become zero
        examples=0,  # of training, that criteria look at; 0: the criterion's own number
        # Until a target on the validation split would be lost: iterative goes on and one_shot
        # bisects, and what keeps least of those that hold it is the result, in place of density.
        keep_accuracy=0.0,  # points below the dense network's, such as 0.01; 0: off
        least_accuracy=0.0,  # or an accuracy; 0: off
        least_density=0.01,  # of such a search: where it ends
    )
    config.fine_tune = dict(
        steps=200,  # updates of a network that was pruned
        batch_size=100,  # examples of a step, of each replicate
    )
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(learning_rate=3e-4, schedule="cosine")
    return config
