"""Do language models have tickets? A small Transformer learns Python's own help texts.

    python -m lottery.main --config=configs/lottery/text_pydoc.py --workdir=runs/text_pydoc

A decoder of 2 blocks (4 heads, 64 features) predicts the next character of windows of 64.
The text is what `help()` shows of the topics of this Python, split by position into 80 %
for training, 10 % for validation and 10 % for the test. Pruning is global, with rewinding to step
100 of 1,000 steps of Adam, over kernels alone; embeddings and norms are prunable, too, with
--config.prune.prunable="('*kernel', '*embedding', 'positions', '*scale', '*bias')".
An LSTM takes the Transformer's place with --config.model.name=lstm
--config.model.kwargs="{'layers': 2, 'features': 64}".
Source: Yu et al., arXiv:1906.02768, who prune 20 % of all weights of LSTMs and Transformers at each
of 20 levels, rewind to the end of the first epoch, and compare with random tickets.
Departs: the networks and the text are far smaller, and biases stay unless they are named.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.levels = 4
    config.eval_every = 200
    config.data.name = "pydoc"
    config.data.source = "text"
    config.data.kwargs = {"unit": "characters", "length": 64, "validation": 0.1, "test": 0.1}
    config.loss = "language_model"
    config.model.name = "transformer"
    config.model.kwargs = {"layers": 2, "heads": 4, "features": 64}
    config.train.update(steps=1000, batch_size=32)
    config.optimizer.update(name="adam", learning_rate=3e-3, schedule="cosine", warmup_steps=50)
    config.prune.rate = 0.3
    config.prune.scope = "global"
    config.rewind.step = 100
    config.branches.random_reinit = (3, 4)
    config.branches.random_mask = (3, 4)
    return config
