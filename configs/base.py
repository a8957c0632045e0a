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
    config.seed = 0
    config.replicates = 3  # networks trained at once, each with its own seed
    config.eval_every = 100  # steps
    config.data = dict(
        name="digits",
        source="digits",  # mnist1d, idx, tfds, folder, npz, huggingface or PACKAGE:FUNCTION
        dir="",  # the folder of the files, for all sources that have files
        kwargs=anything({}),  # what PACKAGE:FUNCTION is called with; for huggingface, column names
        validation_examples=0,  # held out of the training split
        split_seed=0,
        standardize=True,  # subtract the training mean and divide by the deviation
        pad=0,  # black pixels on each side of an image
        stream=False,  # read a tfds set during training; the keys below are for streams alone
        test_split="test",  # ImageNet has validation
        image_size=0,  # height and width of the inputs; 0 keeps them as stored (folder, too)
        augment="none",  # none, crop_flip or resized_crop
        workers=0,  # processes that read ahead; 0 uses threads of this one
        mean=(),  # one for each channel, of images in [0, 1]; () computes them
        std=(),
    )
    config.loss = "cross_entropy"  # mean_squared_error, sigmoid_cross_entropy, or PACKAGE:FUNCTION
    config.loss_kwargs = anything({})  # such as {"label_smoothing": 0.1}
    config.train = dict(steps=400, batch_size=100)
    config.optimizer = dict(
        name="adam",  # sgd, momentum, nesterov, adam or adamw
        learning_rate=1.2e-3,
        momentum=0.9,
        weight_decay=0.0,
        schedule="constant",  # constant, step or cosine
        drop_steps=(),
        drop_factor=0.1,
        warmup_steps=0,
    )
    config.mesh = dict(replicate=0, data=0)  # devices along each axis; 0 chooses
    config.checkpoint = dict(
        every_seconds=60.0,  # between two checkpoints inside a unit of work
        poll_steps=50,  # between two looks whether the run is asked to stop
    )
    config.log = dict(tensorboard=False)
    return config
