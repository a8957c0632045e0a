"""What README, the packages' READMEs and docs/ show works."""

import re
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import form, quantize
from groundwork import architectures, config, overrides
from groundwork.train import loss_spec
from groundwork.train.loss_spec import LossSpec
from groundwork.train.step import Batch
from pruning import masks
from tests import packages
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [path for path in sorted(ROOT.glob("[a-z]*/**/README.md")) if ".venv" not in path.parts]
# Configs that have all keys of a command.
BASES = ("base.py", "early_bird_base.py", "stability_base.py", "weights.py")
COMMANDS = ("lottery", "msdnet", "lowrank", "compress", "pruning", "deploy")


class Foreign(nn.Module):
    """A user's model, with names of Flax's choosing."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(20)(x))
        return nn.Dense(3)(x)


def block_with(text: str, page: str = "README.md") -> str:
    """The one block of Python of a page that has a text."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    (code,) = (block for block in blocks if text in block)
    return code


def lenet(name: str = "lenet_300_100", **section):
    """A model, its variables and inputs for it."""
    model = architectures.build({"name": name, **section}, 10)
    inputs = jax.random.normal(jax.random.key(0), (4, 28, 28, 1))
    return model, model.init(jax.random.key(1), inputs), inputs


def test_the_lines_for_low_rank_layers_run():
    code = block_with("lowrank")
    model = architectures.build({"name": "lenet_300_100"}, 10)
    inputs = jax.random.normal(jax.random.key(0), (4, 784))
    names = {"model": model, "variables": model.init(jax.random.key(1), inputs), "inputs": inputs}
    exec(code, names)
    assert names["logits"].shape == (4, 10)
    assert names["changed"]["params"]["fc1"]["left"]["kernel"].shape == (784, 20)


def test_the_lines_for_a_loss_with_counts_of_its_own_run(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch, losses=block_with("Counts(", "docs/own.md"))
    loss = loss_spec.build(LossSpec("theirs.losses:loss", {"scale": 2.0}), None)
    counts = loss.count(jnp.ones((2, 3)), jnp.zeros((2, 3)), jnp.asarray([True, False]))
    assert counts.means() == {"loss": 2.0, "mean_absolute_error": 1.0}
    assert loss.metric.name in loss.measures


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3)(nn.Dropout(0.1, deterministic=not train)(nn.relu(nn.Dense(5)(x))))


def test_the_lines_for_a_network_of_ones_own_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, inputs = Dropping(), jnp.ones((4, 8))
    variables = model.init(jax.random.key(0), inputs, train=False)
    names = {"model": model, "variables": variables, "inputs": inputs}
    exec(block_with("multiply_adds", "docs/own.md"), names)
    exec(block_with("predictor(", "docs/own.md"), names)
    assert np.allclose(names["logits"], model.apply(variables, inputs, train=False), atol=1e-5)
    exec(block_with("make_loss", "docs/own.md"), names)
    assert callable(names["loss"])
    names["first"], names["second"] = variables, jax.tree.map(lambda leaf: leaf[::-1], variables)
    names["error"] = lambda variables: jnp.mean(model.apply(variables, inputs, train=False) ** 2)
    names["mask"] = names["other"] = masks.ones(variables["params"])
    names["masks"] = [names["mask"]] * 7
    exec(block_with("early_bird.detect", "docs/own.md"), names)
    assert (len(names["errors"]), names["jaccard"], names["index"]) == (30, 1, 4)


def test_the_lines_for_a_small_file_run(tmp_path, monkeypatch):
    code = block_with("compress.save")
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
    code = block_with("lottery")
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


def test_the_lines_for_levels_around_a_users_training_run_and_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, inputs = Foreign(), jax.random.normal(jax.random.key(0), (8, 8))
    calls = []

    def train(params, optimizer):
        calls.append(optimizer)
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    params = model.init(jax.random.key(1), inputs)["params"]
    names = {"params": params, "train": train, "optax": optax, "accuracy": lambda params: 0.5}
    for _ in range(2):
        exec(block_with("lottery.iterate", "lottery/README.md"), dict(names))
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        expected = [220]
        for _ in range(3):
            expected.append(expected[-1] - round(0.2 * expected[-1]))
        assert [float(line[1]) for line in lines] == [kept / 220 for kept in expected]
        assert len(calls) == 4


def test_lowranks_lines_run():
    model, variables, inputs = lenet("lenet_5")
    kernel = np.asarray(variables["params"]["conv2"]["kernel"])
    names = {"model": model, "variables": variables, "inputs": inputs, "kernel": kernel}
    exec(block_with("lowrank.factorize", "lowrank/README.md"), names)
    assert names["logits"].shape == (4, 10)
    assert names["first"].shape[-2:] == (kernel.shape[2], names["core"].shape[2])


def test_the_lines_for_criteria_of_weights_run():
    names: dict = {}
    exec(block_with('CRITERIA["obs"]', "pruning/README.md"), names)
    assert float(names["masks"].density(names["new"])) == 0.5
    assert not names["params"]["fc"]["kernel"][~names["new"]["fc/kernel"]].any()


def test_distillations_lines_run():
    wide, variables, _ = lenet()
    narrow, small, _ = lenet(width=0.5)
    runs = jax.tree.map(lambda leaf: leaf[None], variables)
    names = {"wide": wide, "narrow": narrow, "student": narrow, "shape": (28, 28, 1)}
    names |= {"variables": variables, "runs": runs}
    code = block_with("share.shared", "compress/README.md")
    exec(code.replace("(wide, variables)", "(wide, runs)"), names)
    assert jax.tree.map(jnp.shape, names["start"]) == jax.tree.map(jnp.shape, small)


def test_the_lines_for_mutual_learning_and_hints_run():
    (wide, taught, inputs), (narrow, small, _) = lenet(width=0.05), lenet(width=0.02)
    names = {"wide": wide, "taught": taught, "student": narrow, "key": jax.random.key(0)}
    names |= {"variables": small, "second": small, "inputs": inputs}
    names["runs"] = jax.tree.map(lambda leaf: leaf[None], taught)
    exec(block_with("mutual.make_loss", "compress/README.md"), names)
    assert names["channels"] == [(6, 15)]  # of 300 hidden units
    batch = Batch(inputs, jnp.arange(4), jnp.ones(4, bool))
    loss, _ = jax.eval_shape(names["loss"], names["key"], names["begun"], batch)
    assert loss.shape == ()


def test_prunings_lines_for_sparse_training_run(capsys):
    names = {}
    exec(block_with("dynamic.rigl", "pruning/README.md"), names)
    kept = names["masks"].mask_of(names["state"])
    assert {p: int(jnp.sum(leaf)) for p, leaf in kept.items()} == names["counts"]
    assert capsys.readouterr().out.startswith("0.1000")  # 365 of 3648
    assert any(jnp.any(kept[path] != names["mask"][path]) for path in kept)


def test_prunings_lines_for_whole_units_run(capsys):
    names = {}
    exec(block_with("structured.narrow", "pruning/README.md"), names)
    assert names["logits"].shape == (128, 10)
    printed = capsys.readouterr().out
    assert "(20, 32)" in printed.splitlines()[-1]
    assert "layers_0" in printed


def test_prunings_lines_for_patterns_run(capsys):
    names = {}
    exec(block_with("patterns.n_m(", "pruning/README.md"), names)
    for path in ("two_of_four", "permuted"):
        assert names[path].sum() == 64 * 32 / 2
    assert names["quarter"].sum() == names["mask"]["fc1/kernel"].sum() == 64 * 32 / 4
    before, after = map(float, capsys.readouterr().out.splitlines()[0].split())
    assert after > before


def test_compress_lines_for_quantised_weights_and_codes_run():
    _, variables, _ = lenet()
    params = variables["params"]
    kernel = params["fc1"]["kernel"]
    mask = jnp.abs(kernel) > 0.05
    names = {"params": params, "kernel": kernel, "mask": mask}
    exec(block_with("quantize.learnable", "compress/README.md"), names)
    made = names["params"]["fc1"]["kernel"]
    assert (made[~mask] == 0).all()
    indices = np.arange(1000) % 32
    names = {"indices": indices, "kernel": np.asarray(made)}
    exec(block_with("huffman.encode", "compress/README.md"), names)
    assert (names["indices"] == indices).all()
    assert (names["at"][names["kept"]] == np.flatnonzero(made)).all()


def test_compress_lines_for_archives_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, variables, inputs = lenet()
    names = {"model": model, "stored": variables["params"], "inputs": inputs}
    exec(block_with("compress.describe", "compress/README.md"), names)
    assert "params/fc1/bias" in capsys.readouterr().out
    names = {"model": model, "variables": dict(variables), "inputs": inputs}
    names |= {"compress": __import__("compress"), "plan": {}, "groups": ()}
    exec(block_with("calibrated", "compress/README.md"), names)
    written = names["form"]._replace(activations={"fc1": 8})
    expected = form.apply_of(written)(names["variables"], inputs)
    np.testing.assert_array_equal(names["apply"](names["variables"], inputs), expected)


def test_deploys_lines_run(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ai_edge_litert")
    monkeypatch.chdir(tmp_path)
    model, inputs = Foreign(), np.ones((4, 8), np.float32)
    variables = model.init(jax.random.key(1), inputs)
    names = {"model": model, "variables": variables, "inputs": inputs}
    exec(block_with("deploy.export", "deploy/README.md"), names)
    np.testing.assert_allclose(names["logits"], model.apply(variables, inputs), atol=1e-5)
    assert (tmp_path / "small8.tflite").is_file()


def name_of(page: Path) -> str:
    """Its path below the root."""
    return str(page.relative_to(ROOT))


def sections(page: Path) -> dict[str, str]:
    """Command → what a page says of it: README has a section for some, a package its own page."""
    text = page.read_text()
    if page.parent.name in (*COMMANDS, "search"):
        return {page.parent.name: text}
    parts = re.split(r"^## ", text, flags=re.M)
    headings = {"Early exits": "msdnet", "Low rank": "lowrank", "Deep compression": "compress"}
    headings |= {"Distillation": "compress", "Smaller networks": "pruning"}
    headings |= {"Structured pruning": "pruning", "Compressed": "compress", "Engines": "deploy"}
    headings |= {"On engines: EfficientNet-Lite0": "deploy"}
    headings |= {"Automated compression": "search", "A search": "search"}
    headings |= {"Compressed networks on engines": "deploy"}
    told: dict[str, str] = {}
    for part in parts:
        command = headings.get(part.split("\n", 1)[0], "lottery")
        told[command] = told.get(command, "") + part
    return told


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_flag_and_config_that_a_page_names_exists(page):
    for command, text in sections(page).items():
        files = [ROOT / "configs" / command / name for name in BASES]
        loaded = [config.load(str(file)) for file in files if file.exists()]
        keys = {key for one in loaded for key in overrides.keys(one)}
        assert set(re.findall(r"--config\.([a-z_.0-9]+)=", text)) <= keys
    for path in re.findall(r"configs/[a-z_/0-9]+\.py", page.read_text()):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("command", COMMANDS[:1] + COMMANDS[2:])
def test_a_commands_page_names_flags(command):
    assert "--config." in (ROOT / command / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_make_target_exists(page):
    text = page.read_text()
    for link, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        target = page.parent / link if link else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.M)
            assert heading in {anchor(text) for text in headings}, heading
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^ {4})make ([a-z]+)", text, flags=re.M):
        assert f"\n{target}:" in makefile, target


def anchor(heading: str) -> str:
    """What a heading is called in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES[1:], ids=name_of)
def test_every_file_in_a_packages_table_exists(page):
    """In a cell, names after the first one are those of files beside it."""
    for cell in re.findall(r"^\| ([^|]*`[^|]*`[^|]*) \|", page.read_text(), flags=re.M):
        folder = ROOT / "configs" if page.parent.name == "docs" else page.parent
        for name in re.findall(r"`([\w/.]+\.(?:py|cc|h|sh))(?::\d)?`", cell):
            folder = folder if "/" not in name else (page.parent / name).parent
            assert (folder / Path(name).name).is_file(), name


def test_the_lines_that_prune_save_and_load_an_equinox_module_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net, untrained = (eqx.nn.MLP(5, 3, 8, 1, key=jax.random.key(seed)) for seed in range(2))
    names = {"net": net, "inputs": jnp.ones((2, 5))}
    exec(block_with("tree_serialise_leaves", "docs/own.md"), names)
    kept, there = names["keep"], {"untrained": untrained, "inputs": names["inputs"]}
    there |= {name: names[name] for name in ("structured", "batched", "eqx", "np")}
    exec(block_with("tree_deserialise_leaves", "docs/own.md"), there)
    assert [int(units.sum()) for units in kept.values()] == [4]
    np.testing.assert_array_equal(there["logits"], names["logits"])
