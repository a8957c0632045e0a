"""Who asks for something wrong by a key or in a config file gets one line and exit code 2."""

import pytest

from groundwork import config as config_lib
from groundwork.errors import UserError
from lottery import spec
from tests.lottery.refusals import TrainingBeganError

PUBLISHED = {"source": "a paper", "level": 1, "ticket": [1], "random_mask": [1], "dense": [1]}
SIZES = {"fc1": 64 * 300, "fc2": 300 * 100, "output": 100 * 10}


def test_the_command_that_the_others_here_change_is_itself_accepted(typed, tmp_path):
    with pytest.raises(TrainingBeganError):
        typed()
    assert (tmp_path / "run/config.json").is_file()


def test_a_setting_without_effect_is_a_warning_of_the_run(typed, tmp_path, capsys):
    with pytest.raises(TrainingBeganError):
        typed("branches.random_mask=(1, 99)")
    line = "warning: branches.random_mask: [99] are not trained, since levels="
    assert (tmp_path / "run/run.log").read_text().count(line) == 1
    assert capsys.readouterr().err.count(line) == 1


CASES = {
    # keys
    "a misspelt key": ("prune.rte=0.3", ["config.prune.rte", "config.prune.rate"]),
    "a misspelt key at the top": ("levls=3", ["config.levls", "config.levels"]),
    "a misspelt section": ("trian.steps=3", ["config.trian.steps", "config.train.steps"]),
    "an unknown flag": ("--workdri=x", ["workdri", "workdir"]),
    "a key without config": ("--levels=3", ["levels", "config.levels"]),
    "a text for a number": ("train.steps=ten", ["config.train.steps", "ten"]),
    # rates
    "a negative rate": ("prune.rate=-0.1", ["prune.rate=-0.1", "[0, 1)"]),
    "rate 1.0": ("prune.rate=1.0", ["prune.rate=1.0", "[0, 1)"]),
    "rate 1": ("prune.rate=1", ["prune.rate=1.0 ", "[0, 1)"]),
    "rate 1.5": ("prune.rate=1.5", ["prune.rate=1.5", "[0, 1)"]),
    "per cent": ("prune.rate=20", ["prune.rate=20", "[0, 1)"]),
    "rate 1.5 in a mapping": (
        "prune.rate={'*': 0.2, 'fc1': 1.5}",
        ["prune.rate", "1.5", "'fc1'", "[0, 1)"],
    ),
    "a negative rate in a mapping": ("prune.rate={'*': -1}", ["prune.rate", "-1", "'*'"]),
    "rate nan": ("prune.rate=nan", ["prune.rate='nan'", "[0, 1)"]),
    "rate inf": ("prune.rate=1e999", ["prune.rate=inf", "[0, 1)"]),
    "a text as rate": ("prune.rate=fast", ["prune.rate='fast'", "[0, 1)"]),
    "a text as rate in a mapping": ("prune.rate={'*': 'x'}", ["prune.rate", "'*'", "[0, 1)"]),
    "a list as rate": ("prune.rate=[0.1, 0.2]", ["prune.rate=", "[0, 1)"]),
    "a truth as rate": ("prune.rate=True", ["prune.rate=True", "[0, 1)"]),
    "rate 0": ("prune.rate=0", ["prune.rate", "level 1", "levels=0"]),
    "a layer without a rate": ("prune.rate={'fc*': 0.2}", ["prune.rate", "'output'"]),
    "a pattern without a layer": (
        "prune.rate={'*': 0.2, 'conv1': 0.1}",
        ["prune.rate", "'conv1'", "fc1", "fc2", "output"],
    ),
    "a predicate that matches nothing": (
        "prune.prunable=('*weight',)",
        ["prune.prunable", "*weight", "fc1/kernel"],
    ),
    # counts
    "negative levels": ("levels=-1", ["levels=-1", "at least 0"]),
    "no replicate": ("replicates=0", ["replicates=0", "at least 1"]),
    "negative replicates": ("replicates=-2", ["replicates=-2", "at least 1"]),
    "no step": ("train.steps=0", ["train.steps=0", "at least 1"]),
    "an empty batch": ("train.batch_size=0", ["train.batch_size=0", "at least 1"]),
    "a batch larger than the data": ("train.batch_size=1301", ["train.batch_size=1301", "1300"]),
    "no evaluation": ("eval_every=0", ["eval_every=0", "at least 1"]),
    "a negative rewind step": ("rewind.step=-1", ["rewind.step=-1", "at least 0"]),
    "a rewind to the end": ("rewind.step=200", ["rewind.step=200", "train.steps=200"]),
    "a score at the rewind step": ("prune.score_step=0", ["prune.score_step=0", "rewind.step=0"]),
    "a score past the end": ("prune.score_step=201", ["prune.score_step=201", "train.steps=200"]),
    "a score of no step": ("prune.score_step=-2", ["prune.score_step=-2", "at least -1"]),
    "the key beside, not that of another section": (
        "train.step=5",
        ["'config.train.step'", "did you mean 'config.train.steps'"],
    ),
    "an open bracket": ("data.mean=(0.1,0.2", ["data.mean=(0.1,0.2", "bracket"]),
    "a dot in a pattern": (
        "prune.rate={'fc.1': 0.5}",
        ["the key fc.1 contains", "? is any character"],
    ),
    "a rewind past the end": ("rewind.step=999", ["rewind.step=999", "train.steps=200"]),
    "a negative seed": ("seed=-1", ["seed=-1", "at least 0"]),
    "a seed of more than 64 bits": (f"seed={2**70}", [f"seed={2**70}"]),
    "a seed that jax would cut": (f"seed={2**32}", [f"seed={2**32}"]),
    "a negative split seed": ("data.split_seed=-1", ["data.split_seed=-1", "at least 0"]),
    "validation that leaves nothing": (
        "data.validation_examples=1500",
        ["data.validation_examples=1500", "1500 training examples"],
    ),
    "negative validation": ("data.validation_examples=-1", ["data.validation_examples=-1"]),
    "a negative checkpoint interval": (
        "checkpoint.every_seconds=-1",
        ["checkpoint.every_seconds=-1", "at least 0"],
    ),
    # types and sizes
    "patterns that are numbers": (
        "prune.prunable=(1, 2)",
        ["prune.prunable=(1, 2) must be texts, such as ('*kernel',)"],
    ),
    "no pattern": ("prune.prunable=(None,)", ["prune.prunable=(None,) must be texts"]),
    "steps beyond 32 bits": (
        "train.steps=99999999999999999999",
        ["train.steps=99999999999999999999 must be less than 2**31"],
    ),
    "a section that is a number": ("model={}", ["config lacks the key model.name"]),
    "a billion levels": ("levels=1000000000", ["levels=1000000000 must be less than 1000000"]),
    "two billion replicates": (
        "replicates=2000000000",
        ["replicates=2000000000 of this model needs 1.1 PiB of memory or more, but this machine"],
    ),
    "a width of a million": ("model.width=1e6", ["this model needs", "of memory or more"]),
    "a width of 1e300": ("model.width=1e300", ["of this model needs 2**20"]),
    "a border of 100000 pixels": (
        "data.pad=100000",
        ["data.pad=100000 needs", "TiB of memory or more, but this machine has"],
    ),
    "images of a million pixels": ("data.image_size=1000000", ["data.image_size=1000000"]),
    "a batch of a billion": (
        "train.batch_size=1000000000",
        ["train.batch_size=1000000000 is more than the"],
    ),
    # names
    "an unknown source": (
        "data.source=tdfs",
        [
            "'tdfs'",
            "'tfds'",
            "digit_canvases, digits, folder, huggingface, idx, mnist1d, npz, photographs, text, "
            "tfds",
        ],
    ),
    "an unknown data set": ("data.name=digts", ["'digts'", "'digits'"]),
    "an unknown model": (
        "model.name=lenet_300",
        ["'lenet_300'", "did you mean 'lenet_300_100'", "architectures/README.md"],
    ),
    "an unknown optimizer": (
        "optimizer.name=admw",
        ["optimizer.name 'admw'", "did you mean 'adamw'", "momentum, nesterov, sgd"],
    ),
    "an unknown learning-rate schedule": (
        "optimizer.schedule=cosin",
        ["optimizer.schedule 'cosin'", "did you mean 'cosine'", "constant, cosine, step"],
    ),
    "an unknown criterion": (
        "prune.criterion=magnitud",
        ["prune.criterion 'magnitud'", "did you mean 'magnitude'", "taylor, wanda"],
    ),
    "an unknown scope": ("prune.scope=globl", ["prune.scope 'globl'", "global, layerwise"]),
    "an unknown pruning schedule": (
        "prune.schedule=lineal",
        ["prune.schedule 'lineal'", "did you mean 'linear'", "geometric, linear"],
    ),
    "an unknown restore": ("rewind.restore=weight", ["rewind.restore 'weight'", "state, weights"]),
    "an unknown branch": (
        "branches={'random_masks': 'all'}",
        ["branch", "'random_masks'", "did you mean 'random_mask'", "small_dense"],
    ),
    "a branch at level 0": ("branches.random_mask=(0, 1)", ["branches.random_mask", "'all'"]),
    "a branch at half a level": ("branches.random_mask=1.5", ["branches.random_mask", "'all'"]),
    "a branch at no level": ("branches.random_mask=None", ["branches.random_mask", "'all'"]),
    "a branch at some level": ("branches.random_mask=some", ["branches.random_mask", "'all'"]),
    # numbers
    "a negative learning rate": (
        "optimizer.learning_rate=-1",
        ["optimizer.learning_rate=-1", "positive"],
    ),
    "learning rate nan": ("optimizer.learning_rate=nan", ["optimizer.learning_rate=nan"]),
    "learning rate inf": ("optimizer.learning_rate=inf", ["optimizer.learning_rate=inf"]),
    "momentum 1": ("optimizer.momentum=1", ["optimizer.momentum=1", "[0, 1)"]),
    "width 0": ("model.width=0", ["model.width=0", "positive"]),
    "width nan": ("model.width=nan", ["model.width=nan", "finite"]),
    "width inf": ("model.width=inf", ["model.width=inf"]),
    "a model that the data do not fit": ("model.name=lenet_5", ["8, 8, 1"]),
    # mesh: this process has four devices
    "replicates that the mesh does not divide": (
        "mesh.replicate=2",
        ["mesh.replicate=2", "replicates=3", "[1, 3]"],
    ),
    "a batch that the mesh does not divide": (
        "mesh.data=3",
        ["mesh.data=3", "train.batch_size=100", "[1, 2, 4]"],
    ),
    "a negative mesh": ("mesh.data=-1", ["mesh.data=-1"]),
    "more devices than there are": ("mesh.data=100", ["mesh.data=100", "100 devices", "are 4"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(refused, case):
    override, expected = CASES[case]
    said = refused(override)
    for part in expected:
        assert part in said


@pytest.mark.parametrize(
    ("published", "said"),
    [
        (3, "published=3 must be a section"),
        ({"ticket": "abc"}, "config lacks the key published.source"),
        ({**PUBLISHED, "dense": "abc"}, "published.dense='abc' must be numbers"),
        ({**PUBLISHED, "dense": []}, "published.dense is empty"),
    ],
)
def test_published_figures_are_checked_before_anything_is_trained(published, said):
    config = config_lib.resolve(config_lib.load("configs/lottery/digits.py"))
    spec.from_config({**config, "published": PUBLISHED})
    with pytest.raises(UserError, match=said):
        spec.from_config({**config, "published": published})


def first_bad_level(rates, sizes, schedule="geometric"):
    """Level, layer, what would happen: a plain loop over the rule of DESIGN.md, decision 3."""
    kept = dict(sizes)
    for level in range(1, 1000):
        for layer, rate in rates.items():
            share = level * rate * sizes[layer] if schedule == "linear" else rate * kept[layer]
            start = sizes[layer] if schedule == "linear" else kept[layer]
            after = start - round(share)
            if after < 1:
                return level, layer, "empty"
            if after == kept[layer]:
                return level, layer, "stop shrinking"
            kept[layer] = after
    raise AssertionError


@pytest.mark.parametrize(
    ("rate", "schedule"),
    [(0.5, "geometric"), (0.2, "geometric"), (0.9, "geometric"), (0.25, "linear"), (0.3, "linear")],
)
def test_levels_that_would_empty_a_layer_or_stop_shrinking_are_refused(refused, rate, schedule):
    level, layer, what = first_bad_level(dict.fromkeys(SIZES, rate), SIZES, schedule)
    said = refused("levels=60", f"prune.rate={rate}", f"prune.schedule={schedule}")
    assert f"level {level} " in said
    assert f"{what} '{layer}'" in said
    assert f"levels={level - 1} or fewer" in said


def test_levels_are_checked_layer_by_layer(refused):
    rates = {"fc1": 0.5, "fc2": 0.5, "output": 0.25}
    level, layer, what = first_bad_level(rates, SIZES)
    said = refused("levels=60")  # digits.py: half, a quarter of the output layer
    assert f"level {level} would {what} '{layer}'" in said


# config files


@pytest.mark.parametrize("path", ["configs/lottery/digit.py", "configs/lotery/digits.py"])
def test_a_missing_config_file_suggests_the_near_one(refused, path):
    said = refused(config=f"--config={path}")
    assert f"{path} does not exist" in said
    assert "did you mean configs/lottery/digits.py?" in said


def edited(tmp_path, edit):
    """A config file of a user's own: digits with one more line."""
    lines = ["from configs.lottery import digits", "def get_config():"]
    lines += ["    config = digits.get_config()", f"    {edit}", "    return config", ""]
    (tmp_path / "own.py").write_text("\n".join(lines))
    return f"--config={tmp_path / 'own.py'}"


SECTIONS = ["data", "model", "train", "optimizer", "prune", "rewind", "branches", "mesh"]


@pytest.mark.parametrize("section", [*SECTIONS, "checkpoint", "log"])
def test_a_key_that_a_config_file_adds_to_a_section_is_refused(refused, tmp_path, section):
    said = refused(config=edited(tmp_path, f"config.{section}.stepz = 3"))
    assert "stepz" in said
    assert section.removesuffix("es") in said


def test_a_rate_that_is_no_number_is_refused(refused, tmp_path):
    # typed, `nan` is a text; in a file it is a float that compares with nothing
    for rate, key in (("float('nan')", ""), ("{'*': 0.2, 'fc1': float('nan')}", "['fc1']")):
        said = refused(config=edited(tmp_path, f"config.prune.rate = {rate}"))
        assert f"prune.rate{key}=nan" in said
        assert "[0, 1)" in said


def test_a_key_that_a_config_file_misspells_is_refused_with_the_near_one(refused, tmp_path):
    said = refused(config=edited(tmp_path, "config.levls = 3"))
    assert "'levls'; did you mean 'levels'?" in said
    said = refused(config=edited(tmp_path, "config.data.validation_exampels = 3"))
    assert "did you mean 'data.validation_examples'?" in said


KEYS = [
    *("seed", "levels", "replicates", "eval_every", *SECTIONS, "checkpoint", "log"),
    *("data.name", "data.source", "model.name", "train.steps", "optimizer.momentum"),
    *("prune.rate", "rewind.step", "mesh.data", "checkpoint.every_seconds", "log.tensorboard"),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_a_config_file_lacks_is_named(refused, tmp_path, key):
    said = refused(config=edited(tmp_path, f"del config.{key}"))
    assert key in said


def test_a_config_file_that_fails_is_named_with_its_line(refused, tmp_path):
    said = refused(config=edited(tmp_path, "config.levels = 1 / 0"))
    assert str(tmp_path / "own.py") in said
    assert "division by zero" in said
    assert "line 4" in said
