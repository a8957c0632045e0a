"""Networks, data and losses of a user's own, through the stages and into files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import archive, main, results, spec
from groundwork import trees
from groundwork.architectures import own
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from tests import packages
from tests.compress import small

QUICK = [
    "--config.train.steps=20",
    "--config.train.batch_size=20",
    "--config.fine_tune.steps=10",
    "--config.fine_tune.batch_size=20",
    "--config.eval_every=10",
    "--config.model.width=1.0",
    "--config.data.validation_examples=0",
    "--config.prune.levels=(1,)",
]
TOKENS = [
    *QUICK,
    "--config.model.name=theirs.nets:Tokens",
    "--config.model.kwargs={'vocabulary': 7}",
    "--config.data.source=theirs.data:tokens",
]


def test_a_language_model_is_pruned_quantised_and_read_back_from_its_file(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    small.train(tmp_path / "run", *TOKENS)
    run = results.read(tmp_path / "run")
    assert run.leaves[0].name == "prune-01+quantize-3"
    network = own.build("theirs.nets:Tokens", {"vocabulary": 7}, {}, 0)
    path = tmp_path / "run/files/prune-01+quantize-3/1.cna"
    apply, variables = archive.load(path, network)
    kept = results.load(tmp_path / "run", run.leaves[0].name)
    jax.tree.map(np.testing.assert_array_equal, variables, trees.replicate(kept, 1))
    assert apply(variables, jnp.zeros((2, 6), jnp.int32)).shape == (2, 6, 7)
    with pytest.raises(UserError, match="model"):
        archive.load(path)


@pytest.mark.slow
def test_an_nnx_network_is_factorised_and_its_inputs_rounded(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    small.train(
        tmp_path / "run",
        *QUICK,
        "--config.model.name=theirs.nets:Convolutional",
        "--config.stages=('factorize', 'quantize')",
        "--config.factorize.method=svd",
        "--config.factorize.shares=(0.9,)",
        "--config.quantize.activation_bits=8",
    )
    (leaf,) = results.read(tmp_path / "run").leaves
    assert set(leaf.activations) == {"conv", "layers/0", "layers/1"}
    network = own.build("theirs.nets:Convolutional", {}, {}, 10)
    apply, variables = archive.load(tmp_path / f"run/files/{leaf.name}/0.cna", network)
    assert apply(variables, jnp.zeros((2, 8, 8, 1))).shape == (2, 10)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["--config.quantize.activation_bits=8"], "activation_bits rounds the inputs"),
        (["--config.stages=('distill',)"], "one label for each example"),
    ],
)
def test_what_cannot_serve_it_is_refused_before_training(overrides, match, tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=match):
        small.train(tmp_path / "run", *TOKENS, *overrides)
    assert not (tmp_path / "run").exists()


def test_a_student_of_ones_own_is_known_by_its_code(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    name = "theirs.nets:Convolutional"
    config = small.config(stages=("distill",), distill={"model": {"name": name}, "init": "fresh"})
    dataset = data_lib.load(config)

    def code():
        return main.STUDY.prepare(spec.from_config(config), config, dataset).own

    before = code()
    assert list(before) == ["distill.model.name"]
    packages.write(tmp_path, monkeypatch, nets=packages.NETS.replace("width=4", "width=5"))
    assert code() != before
