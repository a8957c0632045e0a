"""What README shows works."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from compress import quantize
from groundwork import architectures, config
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


class Foreign(nn.Module):
    """A user's model, with names of Flax's choosing."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(20)(x))
        return nn.Dense(3)(x)


def test_the_lines_for_low_rank_layers_run():
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    (code,) = (block for block in blocks if "lowrank" in block)
    model = architectures.build({"name": "lenet_300_100"}, 10)
    inputs = jax.random.normal(jax.random.key(0), (4, 784))
    names = {"model": model, "variables": model.init(jax.random.key(1), inputs), "inputs": inputs}
    exec(code, names)
    assert names["logits"].shape == (4, 10)
    assert names["changed"]["params"]["fc1"]["left"]["kernel"].shape == (784, 20)


def test_the_lines_for_a_small_file_run(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    (code,) = (block for block in blocks if "compress.save" in block)
    monkeypatch.chdir(tmp_path)
    model = architectures.build({"name": "lenet_300_100"}, 10)
    inputs = jax.random.normal(jax.random.key(0), (4, 784))
    names = {"model": model, "variables": model.init(jax.random.key(1), inputs), "inputs": inputs}
    exec(code, names)
    kernel = names["loaded"]["params"]["fc1"]["kernel"]
    assert len(jnp.unique(kernel)) == 2**4
    expected = model.apply({"params": quantize.materialize(names["stored"])}, inputs)
    assert (names["logits"] == expected).all()


def test_the_lines_for_a_users_own_code_run_and_prune():
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    (code,) = (block for block in blocks if "lottery" in block)
    assert len([line for line in code.splitlines() if line.strip()]) < 10
    model, key = Foreign(), jax.random.key(0)
    inputs = jax.random.normal(key, (64, 8))
    labels = jnp.argmax(inputs[:, :3], -1)
    zeros = []

    def fit(params, optimizer):
        opt_state = optimizer.init(params)

        @jax.jit
        def step(params, opt_state):
            def loss(params):
                logits = model.apply({"params": params}, inputs)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        for _ in range(10):
            params, opt_state = step(params, opt_state)
            kernels = [params[f"Dense_{i}"]["kernel"] for i in (0, 1)]
            zeros.append([int((kernel == 0).sum()) for kernel in kernels])
        return params

    names = {"model": model, "key": key, "inputs": inputs, "fit": fit, "optax": optax}
    exec(code, names)
    one, two = 160, 60  # weights
    expected = [[0, 0], [round(0.2 * one), round(0.2 * two)]]
    expected.append(
        [n + round(0.2 * (w - n)) for n, w in zip(expected[1], (one, two), strict=True)]
    )
    assert zeros == [counts for counts in expected for _ in range(10)]


def test_every_flag_and_config_that_readme_names_exists():
    rest, own = README, {}
    for base, heading in (("lowrank", "## Low rank"), ("compress", "## Deep compression")):
        before, section = rest.split(heading, 1)
        own[base], after = section.split("\n## ", 1)
        rest = f"{before}\n## {after}"
    for base, text in {**own, "lottery": rest}.items():
        keys = set(config.flatten(config.resolve(config.load(f"configs/{base}/base.py"))))
        named = set(re.findall(r"--config\.([a-z_.0-9]+)=", text))
        assert named
        assert named <= keys
    for path in re.findall(r"configs/[a-z_/0-9]+\.py", README):
        assert (ROOT / path).is_file()


def test_every_link_and_make_target_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+) ", README):
        assert f"\n{target}:" in makefile or target == "are"
