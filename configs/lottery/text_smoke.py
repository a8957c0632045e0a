"""The smoke test of text: a tiny Transformer, two levels of pruning and both random controls.

    python -m lottery.main --config=configs/lottery/text_smoke.py --workdir=runs/text_smoke

It takes the text and the protocol of `text_pydoc.py` (after Yu et al., arXiv:1906.02768) at a size
that takes seconds and shows nothing but that all parts work.
"""

import ml_collections

from configs.lottery import text_pydoc


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = text_pydoc.get_config()
    config.levels = 2
    config.replicates = 2
    config.eval_every = 30
    config.data.kwargs = {"length": 16, "validation": 0.02, "test": 0.02}
    config.model.kwargs = {"layers": 1, "heads": 2, "features": 16}
    config.train.update(steps=60, batch_size=16)
    config.optimizer.warmup_steps = 10
    config.prune.rate = 0.5
    config.rewind.step = 10
    config.branches.random_reinit = "all"
    config.branches.random_mask = "all"
    return config
