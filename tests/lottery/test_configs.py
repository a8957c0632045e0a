import ast
import re
import shlex

import pytest

from groundwork import architectures
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.data import readers
from groundwork.errors import UserError
from groundwork.train import optim
from lottery import spec
from tests.conftest import ROOT

FILES = sorted(
    path.name
    for path in (ROOT / "configs/lottery").glob("[a-z]*.py")
    if not path.name.startswith("stability_")  # of lottery.stability
)
EXPERIMENTS = [name for name in FILES if name != "base.py"]
SHAPES = {  # data set → shape of an example, training examples
    "digits": ((8, 8, 1), 1500),
    "mnist": ((28, 28, 1), 60_000),
    "fashion_mnist": ((28, 28, 1), 60_000),
    "mnist1d": ((40,), 4000),
    "cifar10": ((32, 32, 3), 50_000),
}
PARAMETERS = {  # as the docstrings and papers have them
    "conv2_cifar10.py": 4_301_642,
    "conv2_fashion_mnist.py": 208_058,
    "conv4_cifar10.py": 2_425_930,
    "conv6_cifar10.py": 2_262_602,
    "lenet5_fashion_mnist.py": 431_080,
    "lenet_fashion_mnist.py": 266_610,
    "lenet_mnist.py": 266_610,
    "mnist1d.py": 276_010,
    "mnist1d_full.py": 276_010,
    "resnet20_cifar10.py": 269_722,
    "resnet20_fashion_mnist.py": 67_906,
    "vgg19_cifar10.py": 20_035_018,
}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def loaded(name):
    return config_lib.resolve(config_lib.load(f"configs/lottery/{name}"))


def shapes_of(config):
    shape, _ = SHAPES[config["data"]["name"]]
    return architectures.shapes(architectures.build(config, 10), shape)["params"]


def plan_of(config):
    """The plan of a config, as the command makes it."""
    checked = spec.from_config(config)
    leaves = checked.prune.leaves(shapes_of(config))
    return checked.prune.plan(leaves, checked.levels, "levels=", "levels=0")


def docstring(name):
    found = ast.get_docstring(ast.parse((ROOT / "configs/lottery" / name).read_text()))
    assert found
    return found


def commands(name):
    """The command lines that a docstring shows, continued lines joined, split into words."""
    lines = docstring(name).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith("python -m")]


def test_there_are_the_configs_that_were_promised():
    assert set(PARAMETERS) | {"base.py", "digits.py"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_config_passes_the_spec_and_its_optimizer_is_made(name):
    checked = spec.from_config(loaded(name))
    optim.make(checked.optimizer, checked.train.steps)
    assert checked.levels >= 1


@pytest.mark.parametrize("name", FILES)
def test_a_configs_model_builds_and_its_levels_can_all_be_pruned(name):
    config = loaded(name)
    plan = plan_of(config)
    assert len(plan.kept) == config["levels"] + 1
    for before, after in zip(plan.kept, plan.kept[1:], strict=False):
        for group, rate in plan.rates.items():  # a layer that is never pruned stays whole
            assert 1 <= after[group] <= before[group]
            assert (after[group] < before[group]) == (rate > 0)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_configs_model_has_the_papers_number_of_parameters(name):
    assert architectures.count(shapes_of(loaded(name))) == PARAMETERS[name]


@pytest.mark.parametrize(
    "name", [name for name in PARAMETERS if "conv" in name or "net20_f" in name]
)
def test_a_docstring_says_the_number_of_parameters(name):
    assert f"{PARAMETERS[name]:,} parameters" in docstring(name)


@pytest.mark.parametrize("name", FILES)
def test_a_configs_data_section_is_one_that_can_be_loaded(name):
    config_lib.build(data_lib.DataSpec, loaded(name)["data"], "data")


@pytest.mark.parametrize("name", FILES)
def test_a_configs_data_source_exists_and_its_batches_and_splits_fit(name):
    config = loaded(name)
    section = config["data"]
    assert section["source"] in readers.SOURCES
    _, examples = SHAPES[section["name"]]
    left = examples - section["validation_examples"]
    assert 0 < config["train"]["batch_size"] <= left
    assert config["eval_every"] <= config["train"]["steps"]


@pytest.mark.parametrize("name", FILES)
def test_branches_are_trained_at_levels_that_exist(name):
    config = loaded(name)
    for branch, chosen in config["branches"].items():
        if branch == spec.AT_MOST:
            continue
        assert branch in spec.BRANCHES
        assert chosen == "all" or all(1 <= level <= config["levels"] for level in chosen)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_docstring_has_the_configs_own_command_and_it_parses(name):
    shown = commands(name)
    assert shown
    for words in shown:
        assert words[:3] == ["python", "-m", "lottery.main"]
        assert f"--config=configs/lottery/{name}" in words
        assert any(word.startswith("--workdir=runs/") for word in words)
        config, _ = config_lib.parse(words[3:], "")
        spec.from_config(config_lib.resolve(config))


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "digits.py"])
def test_a_docstring_says_its_source(name):
    assert "arXiv:" in docstring(name)


def keys_of(config):
    """Dotted keys; a rate is one key, whether it is a number or a mapping."""
    flat = config_lib.flatten({**config, "prune": {**config["prune"], "rate": 0}})
    return {key for key in flat if not key.startswith("published.")}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_config_has_the_keys_of_base_and_no_others(name):
    assert keys_of(loaded(name)) == keys_of(loaded("base.py"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_keys_that_users_set_can_be_set(name):
    typed = {
        "levels": 1,
        "replicates": 2,
        "seed": 7,
        "prune.rate": 0.3,
        "prune.scope": "global",
        "prune.criterion": "random",
        "prune.score_step": -1,
        "rewind.step": 1,
        "data.name": "mnist",
        "data.source": "idx",
        "data.dir": "/data",
        "model.name": "lenet_5",
        "train.steps": 10,
        "train.batch_size": 16,
        "eval_every": 5,
    }
    argv = [f"--config=configs/lottery/{name}", *(f"--config.{k}={v}" for k, v in typed.items())]
    config, _ = config_lib.parse(argv, "")
    flat = config_lib.flatten(config_lib.resolve(config))
    assert {key: flat[key] for key in typed} == typed
    spec.from_config(config_lib.resolve(config))


def test_two_loads_of_a_config_share_nothing():
    first = config_lib.load("configs/lottery/mnist1d.py")
    first.levels = 99
    first.prune.rate = 0.9
    second = loaded("mnist1d.py")
    assert (second["levels"], second["prune"]["rate"]) == (12, 0.2)


# what the configs are to show


def density(name, level):
    plan = plan_of(loaded(name))
    return sum(plan.kept[level].values()) / sum(plan.sizes.values())


def test_the_quickstart_ends_at_a_density_of_about_7_hundredths():
    assert density("mnist1d.py", 12) == pytest.approx(0.8**12, abs=1e-4)
    assert loaded("mnist1d.py")["levels"] == 12


def test_the_quickstart_is_the_published_protocol():
    config = loaded("mnist1d.py")
    assert config["model"]["name"] == "residual_mlp"
    assert config["train"] == {"steps": 1501, "batch_size": 100}
    assert config["optimizer"]["name"] == "adam"
    assert config["optimizer"]["learning_rate"] == 2e-2
    assert config["data"]["validation_examples"] == 0
    # kernel and bias of a layer are ranked together
    assert plan_of(config).paths["fc1"] == ("fc1/bias", "fc1/kernel")


def test_the_full_experiments_sparsity_grows_linearly_to_that_published():
    config = loaded("mnist1d_full.py")
    plan = plan_of(config)
    for level in range(config["levels"] + 1):
        for layer, size in plan.sizes.items():
            assert abs(plan.kept[level][layer] - size * (1 - level / 99)) <= 0.5 + 1e-6
    published = config["published"]
    assert density("mnist1d_full.py", published["level"]) == pytest.approx(0.08, abs=0.002)
    assert published["ticket"] == (0.756, 0.744)
    assert published["random_mask"] == (0.606, 0.618)


def test_fashion_mnist_goes_below_a_density_of_a_tenth_in_at_least_12_levels():
    config = loaded("lenet_fashion_mnist.py")
    assert config["levels"] >= 12
    assert config["replicates"] == 3
    assert config["rewind"]["step"] == 0
    sparse = [k for k in range(config["levels"] + 1) if density("lenet_fashion_mnist.py", k) <= 0.1]
    # the control is trained wherever the comparison is made
    assert sparse
    assert set(sparse) <= set(config["branches"]["random_reinit"])


def test_lenet_5_prunes_convolutions_at_half_the_rate_of_dense_layers():
    rates = plan_of(loaded("lenet5_fashion_mnist.py")).rates
    assert rates == {"conv1": 0.1, "conv2": 0.1, "fc1": 0.2, "output": 0.1}


@pytest.mark.parametrize(
    ("name", "steps", "learning_rate", "convolutions"),
    [  # Frankle & Carbin, Figure 2 and Appendix H: the output layer at half the dense layers' rate
        ("conv2_cifar10.py", 20_000, 2e-4, 0.1),
        ("conv4_cifar10.py", 25_000, 3e-4, 0.1),
        ("conv6_cifar10.py", 30_000, 3e-4, 0.15),
    ],
)
def test_the_conv_configs_are_the_papers(name, steps, learning_rate, convolutions):
    config = loaded(name)
    assert config["train"] == {"steps": steps, "batch_size": 60}
    assert config["optimizer"]["name"] == "adam"
    assert config["optimizer"]["learning_rate"] == learning_rate
    assert config["data"]["validation_examples"] == 5000
    assert config["data"]["augment"] == "none"
    assert (config["rewind"]["step"], config["prune"]["scope"]) == (0, "layerwise")
    rates = {re.sub(r"\d", "", layer): rate for layer, rate in plan_of(config).rates.items()}
    assert rates == {"conv": convolutions, "fc": 0.2, "output": 0.1}
    assert (
        density(name, config["levels"]) < 0.02
    )  # below which tickets fall under the dense network


@pytest.mark.parametrize(
    ("name", "densities", "atol"),
    [  # the papers' own labels, in Sections 3 and 4: they are where these rates lead
        ("conv2_cifar10.py", {6: 0.265, 11: 0.088, 14: 0.046}, 5e-4),
        ("conv4_cifar10.py", {11: 0.111, 12: 0.092, 15: 0.054}, 5e-4),
        ("conv6_cifar10.py", {7: 0.264, 10: 0.151, 12: 0.105}, 2.5e-3),
        # theirs has 2,560 weights more that are never pruned
        ("resnet20_cifar10.py", {4: 0.417, 6: 0.271, 7: 0.219, 10: 0.118}, 9e-3),
        ("vgg19_cifar10.py", {12: 0.069, 15: 0.035, 19: 0.015}, 5e-4),
    ],
)
def test_levels_reach_the_densities_that_the_papers_print(name, densities, atol):
    for level, published in densities.items():
        assert density(name, level) == pytest.approx(published, abs=atol)


@pytest.mark.parametrize(
    ("name", "steps", "batch_size", "drops", "rewind_step", "warmup_steps", "warm_rate"),
    [  # Frankle & Carbin, Appendix I and Section 4; Frankle et al., 1903.01611 (rewinding)
        ("resnet20_cifar10.py", 30_000, 128, (20_000, 25_000), 500, 20_000, 0.03),
        ("vgg19_cifar10.py", 112_480, 64, (56_240, 84_360), 100, 10_000, 0.1),
    ],
)
def test_the_deep_configs_are_the_papers(
    name, steps, batch_size, drops, rewind_step, warmup_steps, warm_rate
):
    config = loaded(name)
    assert config["train"] == {"steps": steps, "batch_size": batch_size}
    checked = spec.from_config(config)
    rate = optim.schedule(checked.optimizer, steps)
    for step, expected in zip((0, drops[0], drops[1]), (0.1, 0.01, 0.001), strict=True):
        assert float(rate(step)) == pytest.approx(expected)
        assert step == 0 or float(rate(step - 1)) == pytest.approx(10 * expected)
    assert (checked.optimizer.name, checked.optimizer.momentum) == ("momentum", 0.9)
    assert checked.optimizer.weight_decay == 1e-4
    assert checked.rewind.step == rewind_step
    assert (config["data"]["augment"], config["data"]["stream"]) == ("crop_flip", True)
    # all convolutions are ranked together; the output layer is never pruned
    rates = plan_of(config).rates
    assert sorted(rates.values()) == [0.0, 0.2]
    (whole,) = [plan_of(config).paths[group] for group, share in rates.items() if not share]
    assert whole == ("output/kernel",)
    # the second command is the form with warm-up, from step 0
    warm, _ = config_lib.parse(commands(name)[1][3:], "")
    checked = spec.from_config(config_lib.resolve(warm))
    assert checked.rewind.step == 0
    assert checked.optimizer.warmup_steps == warmup_steps
    assert checked.optimizer.learning_rate == warm_rate


def test_the_short_residual_config_reaches_a_density_below_a_tenth():
    levels = loaded("resnet20_fashion_mnist.py")["levels"]
    assert density("resnet20_fashion_mnist.py", levels) == pytest.approx(0.07, abs=0.005)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_one_level_too_many_is_found_from_shapes_alone(name):
    """The check that the other tests here rely on does refuse: 1,000 levels fit no config."""
    config = loaded(name)
    config["levels"] = 1000
    config["prune"]["schedule"] = "geometric"
    config["prune"]["rate"] = 0.2
    with pytest.raises(UserError, match=r"level \d+ would stop shrinking"):
        plan_of(config)
