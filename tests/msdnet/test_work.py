"""The command, end to end, on a tiny network: units, answers, report, errors, continuing."""

import re

import jax
import numpy as np
import pytest

from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.runs import metrics
from msdnet import exits, main, results
from msdnet.networks import build
from tests import browser, steps
from tests.conftest import ROOT
from tests.lottery.small import assert_same_tree
from tests.msdnet import small

pytestmark = pytest.mark.slow

ALL = ("msdnet", "resnet_exits", "resnets")
CALIBRATED = "--config.exits.calibrate=true"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("msdnet") / "run"
    printed = small.run(folder, CALIBRATED, networks=ALL)
    return folder, printed


def test_every_network_is_a_unit_with_a_table_and_figures(finished, chromium):
    folder, printed = finished
    for network in ("MSDNet", "ResNet with classifiers", "ResNets in turn"):
        assert f"run: {network}" in printed
    page = (folder / "report.html").read_text()
    assert page.count("</figure>") == 3 + 2 * 3 + len(list((folder / "figures").glob("*easy*.png")))
    browser.check(chromium, folder / "report.html")
    for name in ALL:
        assert (folder / f"checkpoints/networks/{name}/final").is_dir()


def test_the_areas_are_between_the_least_and_the_best_accuracy(finished):
    folder, printed = finished
    assert "area under the curve" in printed
    network = results.read(folder).networks["msdnet"]
    for curve, accuracy in zip(network.anytime(), network.accuracy, strict=True):
        assert accuracy.min() <= exits.area(curve) <= accuracy.max()


def test_answers_are_the_networks_own(finished):
    folder, _ = finished
    run = results.read(folder)
    network = run.networks["msdnet"]
    variables, temperatures = results.load(folder)
    assert temperatures.shape == (2, 3)
    model = build("msdnet", run.config["msdnet"], 10)
    dataset = data_lib.load(run.config)
    inputs = data_lib.normalize(dataset, jax.numpy.asarray(dataset.test.inputs))
    for replicate in range(2):
        own = jax.tree.map(lambda leaf, r=replicate: leaf[r], variables)
        logits = np.stack(jax.jit(model.apply)(own, inputs), 1)
        logits /= temperatures[replicate][:, None]
        test = network.answers["test"]
        confidences = np.asarray(exits.confidence(jax.numpy.asarray(logits)))
        np.testing.assert_allclose(test["confidences"][replicate], confidences, atol=1e-5)
        assert (test["predictions"][replicate] == logits.argmax(-1)).mean() > 0.999
    np.testing.assert_array_equal(test["labels"], dataset.test.labels)
    assert network.accuracy.shape == (2, 3)


def test_rows_say_the_last_exits_accuracy(finished):
    folder, _ = finished
    rows = metrics.read(folder / "metrics.jsonl")
    ends = [r for r in rows if r.get("at") == "end" and r["network"] == "msdnet"]
    expected = results.read(folder).networks["msdnet"].accuracy[:, -1]
    np.testing.assert_allclose([r["accuracy"] for r in ends], expected, atol=2e-3)


def test_the_readmes_lines_for_a_users_own_code_run(finished):
    folder, _ = finished
    readme = (ROOT / "msdnet/README.md").read_text()
    code, *_ = re.findall(r"```python\n(.*?)```", readme, flags=re.S)
    assert '"runs/msdnet_digits"' in code
    assert "budget=2e6" in code
    run = results.read(folder)
    budget = np.mean(run.networks["msdnet"].macs[:2])
    code = code.replace('"runs/msdnet_digits"', repr(str(folder))).replace("2e6", str(budget))
    dataset = data_lib.load(run.config)
    inputs = np.asarray(data_lib.normalize(dataset, jax.numpy.asarray(dataset.test.inputs)))
    names = {"inputs": inputs}
    exec(code, names)
    routed = exits.route(run.networks["msdnet"].answers["test"]["confidences"][0], names["chosen"])
    assert (names["predictions"].exits == routed).mean() > 0.99


def test_the_same_command_shows_a_finished_run_and_more_networks_extend_it(finished, tmp_path):
    folder, printed = finished
    before = (folder / "metrics.jsonl").read_bytes()
    assert small.run(folder, CALIBRATED, networks=ALL) == printed
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_asked_to_stop_in_the_middle_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 1)
    with pytest.raises(Interrupted, match=r"saved at networks/msdnet, step \d+"):
        small.train(tmp_path / "run", "--config.checkpoint.poll_steps=20")
    monkeypatch.undo()
    small.train(tmp_path / "run", "--config.checkpoint.poll_steps=20")
    (ours, ones), (theirs, fitted) = (
        results.load(path) for path in (tmp_path / "run", finished[0])
    )
    assert_same_tree(ours, theirs)
    assert (ones == 1).all()
    assert (fitted != 1).all()  # temperatures are fitted where that is asked for


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.exits.weights=(1.0, 2.0)", "has 2 entries, the network has 3 exits"),
        ("--config.exits.weights=(0.0, 0.0, 0.0)", "not all 0"),
        ("--config.data.validation_examples=20", "data.validation_examples=20 is too small"),
        ("--config.networks=('msdnt',)", "did you mean 'msdnet'"),
        ("--config.networks=()", "must name at least one network"),
        ("--config.networks=3", "must be names"),
        ("--config.exits.confidence=sofmax", "did you mean 'softmax'"),
        ("--config.exits.distillation=-1.0", "must be at least 0"),
        ("--config.msdnet.step_mode=evn", "did you mean 'even'"),
        ("--config.msdnet.growth_factors=(1, 3)", "must be even"),
        ("--config.msdnet.dtype=float33", "did you mean 'float32'"),
        ("--config.data.pad=-1", "data.pad=-1 must be at least 0"),
    ],
)
def test_bad_configs_are_one_clear_line(override, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        small.run(tmp_path / "run", "--config.msdnet.growth=3", override)
    assert "\n" not in str(caught.value)


def test_what_is_no_image_is_refused(tmp_path):
    data_lib = ("--config.data.name=mnist1d", "--config.data.source=mnist1d")
    with pytest.raises(UserError, match="networks with exits classify images"):
        small.run(tmp_path / "run", *data_lib)


def test_an_unfinished_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished networks/msdnet"):
        results.load(tmp_path)
    with pytest.raises(UserError, match="holds no readable run"):
        results.read(tmp_path)


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(finished):
    assert steps.agree(main.STUDY, finished[0]) == set()
