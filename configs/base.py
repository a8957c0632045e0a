"""Defaults that all experiments share, with the meaning of each key."""

from typing import Any

import ml_collections
from ml_collections import config_dict


def anything(value: Any) -> config_dict.FieldReference:
    """Returns the value as one that the command line may replace by one of another type."""
    return config_dict.FieldReference(value, field_type=object)


def get_config() -> ml_collections.ConfigDict:
    """Returns the defaults, of which every other config overrides some."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # replicate r of a seed is the same network whatever their number
    config.replicates = 3  # networks trained at once, each with its own seed
    config.eval_every = 100  # steps between two evaluations
    config.data = dict(
        name="digits",  # of the data set, for sources that have several; else for the reports
        # digits, mnist1d, digit_canvases, idx, tfds, folder, npz, huggingface, photographs, text
        # or PACKAGE:FUNCTION
        source="digits",
        dir="",  # the folder of the files, for all sources that have files
        path="",  # of a text: a file, or a folder of files; "" reads the topics of pydoc
        # What PACKAGE:FUNCTION is called with; names of columns for huggingface; for
        # digit_canvases such as {"examples": 2000}; for text such as {"length": 64}
        kwargs=anything({}),
        validation_examples=0,  # how many are held out of the training split
        split_seed=0,  # draws which examples are held out
        standardize=True,  # subtract the training mean and divide by the deviation
        classes=(),  # those that are kept, numbered anew from 0 in this order; () keeps all
        pad=0,  # black pixels on each side of an image
        mean=(),  # one for each channel, of images in [0, 1]; () computes them
        std=(),  # the deviations, likewise
        # The keys below it are for streams alone, but for test_split and a folder's image_size.
        stream=False,  # read a tfds set during training
        test_split="test",  # of the tfds set; ImageNet has validation
        image_size=0,  # height and width of the inputs in pixels; 0 keeps them as stored
        augment="none",  # none, crop_flip or resized_crop
        workers=0,  # processes that read ahead; 0 uses threads of this one
        # auto, none, memory or a folder's path: where decoded images are kept
        cache="auto",
    )
    # cross_entropy, language_model, mean_squared_error, sigmoid_cross_entropy, agreement (with the
    # outputs of another network, which are the targets) or PACKAGE:FUNCTION
    config.loss = "cross_entropy"
    config.loss_kwargs = anything({})  # what the loss is called with: {"label_smoothing": 0.1}
    config.train = dict(
        steps=400,  # updates of a network
        batch_size=100,  # examples of a step, of each replicate
    )
    config.optimizer = dict(
        name="adam",  # sgd, momentum, nesterov, adam or adamw
        learning_rate=1.2e-3,  # after the warm-up
        momentum=0.9,  # of momentum and nesterov, in [0, 1)
        weight_decay=0.0,  # times the weights it joins the gradients; adamw's is decoupled
        schedule="constant",  # constant, step or cosine
        drop_steps=(),  # of schedule=step: the steps at which the rate drops
        drop_factor=0.1,  # of schedule=step: what each drop multiplies the rate by
        warmup_steps=0,  # steps in which the rate grows from 0
    )
    config.mesh = dict(
        replicate=0,  # devices over which replicates are spread; 0 chooses
        data=0,  # devices over which each batch is spread; 0 chooses
    )
    config.checkpoint = dict(
        every_seconds=60.0,  # seconds between two checkpoints inside a unit of work
        poll_steps=50,  # steps between two looks whether the run is asked to stop
        # A process whose training has not moved for so long ends with code 76; 0: never. Steps,
        # compilation and one evaluation must be quicker.
        hang_seconds=3600.0,
    )
    config.log = dict(
        tensorboard=False,  # also write the metrics for TensorBoard
        page=False,  # draw report.html while the run goes on, too; it loads itself again
    )
    return config
