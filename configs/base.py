"""Defaults that all experiments share: each key is here, with what it means."""

from typing import Any

import ml_collections
from ml_collections import config_dict


def anything(value: Any) -> config_dict.FieldReference:
    """A value that the command line may replace by one of another type."""
    return config_dict.FieldReference(value, field_type=object)


def get_config() -> ml_collections.ConfigDict:
    """Everything else overrides some of this."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.replicates = 3  # networks trained at once, each with its own seed
    config.eval_every = 100  # steps
    config.data = dict(
        name="digits",
        source="digits",  # digits, mnist1d, idx, tfds
        dir="",  # folder of the files, for idx and tfds
        validation_examples=0,  # held out of train
        split_seed=0,
        standardize=True,  # subtract the training mean, divide by the deviation
        pad=0,  # black pixels around images, on each side
        stream=False,  # read a tfds set as it is needed; the rest is for streams alone
        test_split="test",  # for ImageNet: validation
        image_size=0,  # height and width of the inputs; 0 = as stored
        augment="none",  # none, crop_flip, resized_crop
        workers=0,  # processes that read ahead; 0 = threads of this one
        mean=(),  # one a channel, of images in [0, 1]; () = computed
        std=(),
    )
    config.train = dict(steps=400, batch_size=100)
    config.optimizer = dict(
        name="adam",  # sgd, momentum, nesterov, adam, adamw
        learning_rate=1.2e-3,
        momentum=0.9,
        weight_decay=0.0,
        schedule="constant",  # constant, step, cosine
        drop_steps=(),
        drop_factor=0.1,
        warmup_steps=0,
    )
    config.mesh = dict(replicate=0, data=0)  # devices an axis; 0 = choose
    config.checkpoint = dict(
        every_seconds=60.0,  # inside a unit of work
        poll_steps=50,  # between two looks whether it is asked to stop
    )
    config.log = dict(tensorboard=False)
    return config
