"""Tickets of another run: what is taken of it, what is drawn anew, and what is refused."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from groundwork import trees
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.report import figures
from groundwork.runs import identity
from groundwork.runs.run import Run
from groundwork.train import loop
from lottery import main, report, results, spec, tickets, transfer, transfer_plot
from lottery.ticket_section import TicketSpec
from tests import in_process
from tests.lottery import small

ARGS = [
    *small.ARGS,
    "--config.levels=1",
    "--config.train.steps=20",
    "--config.rewind.step=4",
    "--config.branches.small_dense=()",
    "--config.branches.random_mask=()",
    "--config.branches.random_reinit=()",
    "--config.model.width=0.05",
]
HEAD = ("output/kernel", "output/bias")


def train(workdir, *overrides):
    in_process.train(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def flat(variables):
    return trees.flatten(variables["params"])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run on half of the classes."""
    folder = tmp_path_factory.mktemp("source") / "run"
    train(folder, "--config.data.classes=(0, 2, 4, 6, 8)", "--config.data.validation_examples=0")
    return folder


@pytest.fixture(scope="module")
def args(source):
    """What trains the source's tickets on all classes by another optimiser, with a control."""
    control = "--config.branches.random_mask=all"
    return [f"--config.ticket.source={source}", "--config.optimizer.name=momentum", control]


BEGAN: dict[str, list[int]] = {}  # unit of the target → the steps of its state before training


@pytest.fixture(scope="module")
def target(tmp_path_factory, args):
    folder = tmp_path_factory.mktemp("target") / "run"
    train_unit = loop.train

    def seen(context, job, state, best):
        BEGAN[job.unit.name] = np.asarray(state.step).tolist()
        return train_unit(context, job, state, best)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", seen)
        train(folder, *args)
    return folder


# a run


@pytest.mark.parametrize("level", [0, 1])
def test_masks_and_weights_are_the_sources_bit_for_bit_and_the_head_is_drawn_anew(
    source, target, level
):
    there, here = (tickets.load(folder, level) for folder in (source, target))
    assert there.mask.keys() == here.mask.keys()
    for name, mask in here.mask.items():
        if name in HEAD:
            assert mask.all()
        else:
            np.testing.assert_array_equal(mask, there.mask[name])
            assert bool(level) == (not mask.all())
    theirs = flat(there.rewound)
    for name, leaf in flat(here.rewound).items():
        if name in HEAD:
            assert leaf.shape[-1] == 10
        else:
            np.testing.assert_array_equal(leaf, theirs[name])
    trained = flat(here.trained)
    for name, mask in here.mask.items():
        assert not trained[name][~mask].any()
        assert (trained[name][mask] != flat(here.rewound)[name][mask]).mean() > 0.5


def test_the_new_head_is_that_of_an_ordinary_run_at_every_level(target):
    zero, one = (flat(tickets.load(target, level).rewound) for level in (0, 1))
    kernel = zero["output/kernel"]
    np.testing.assert_array_equal(kernel, one["output/kernel"])
    assert not (kernel[0] == kernel[1]).any()
    assert 0.5 < kernel.std() * np.sqrt((kernel.shape[1] + 10) / 2) < 2  # Glorot's deviation


def test_a_control_has_the_densities_of_the_ticket_and_the_sources_dense_weights(source, target):
    ticket, control = (tickets.load(target, 1, branch) for branch in ("ticket", "random_mask"))
    dense = flat(tickets.load(source, 0).rewound)
    for name, mask in control.mask.items():
        assert mask.sum() == ticket.mask[name].sum()
        if name not in HEAD:
            assert (mask != ticket.mask[name]).any()
            np.testing.assert_array_equal(flat(control.rewound)[name], dense[name] * mask)


def test_a_run_says_what_is_drawn_anew_and_starts_at_its_own_rewind_step(target):
    said = (target / "run.log").read_text()
    assert "ticket.source: drawn anew, and not pruned: params/output/bias, params/output/k" in said
    units = ("levels/00/ticket", "levels/01/ticket", "levels/01/random_mask")
    assert {unit: [4, 4] for unit in units} == BEGAN
    metadata = json.loads((target / "checkpoints/start/final/manifest.json").read_text())
    assert "params/output/kernel" in json.dumps(metadata)


def test_a_killed_run_continues_bit_for_bit(args, target, tmp_path, monkeypatch):
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 3)
    with pytest.raises(Interrupted, match=r"saved at levels/0[01]/\w+, step"):
        train(tmp_path / "run", *args, "--config.checkpoint.poll_steps=5")
    monkeypatch.undo()
    train(tmp_path / "run", *args, "--config.checkpoint.poll_steps=5")
    units = [(0, "ticket"), (1, "ticket"), (1, "random_mask")]
    small.assert_same_run(tmp_path / "run", target, units)


def test_a_finished_run_needs_its_source_no_more_and_is_known_by_it(
    args, target, tmp_path, monkeypatch
):
    shutil.copytree(target, tmp_path / "run")
    monkeypatch.setattr(transfer, "copies", None)  # by which it would be read
    train(tmp_path / "run", *args)
    with pytest.raises(UserError, match=r"ticket.source is .*run there, .*other here"):
        train(tmp_path / "run", *args, f"--config.ticket.source={tmp_path}/other")


# the figure


def test_a_comparison_has_bars_for_each_target(source, target, tmp_path):
    folders = [tmp_path / name for name in ("there", "here")]
    for folder, run in zip(folders, (source, target), strict=True):
        shutil.copytree(run, folder)
    page = report.compare(folders).page
    assert (tmp_path / "comparison/transfer.png").is_file()
    assert "Transferred tickets" in page.read_text()
    there, here = (results.read(folder) for folder in folders)
    assert transfer_plot.accuracy([there], tmp_path / "none.png") is None
    own = dataclasses.replace(here, config={**here.config, "ticket": {}}, name="own")
    sgd = {**here.config, "optimizer": {**here.config["optimizer"], "name": "sgd"}}
    other = dataclasses.replace(here, config=sgd, name="other")
    grouped = transfer_plot.targets([here, there, other, own])
    assert [[run.name for run in runs] for runs in grouped] == [
        ["there"],
        ["own", "here"],
        ["other"],
    ]
    figure, (ax,) = figures.subplots()
    transfer_plot._panel(ax, [own, here], [1])
    units = ("levels/01/ticket", "levels/01/random_mask")
    heights = [bar.get_height() for bar in ax.patches]
    ends = {unit: [] for unit in units}
    for row in small.rows(target):
        if row.get("at") == "end" and row["unit"] in ends:
            ends[row["unit"]].append(row["accuracy"])
    ticket, control = (np.mean(ends[unit]) for unit in units)
    np.testing.assert_allclose(heights, [ticket, ticket, control])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["dense", "its own tickets", "tickets of run", "random_mask"]
    figures.save(figure, tmp_path / "panel.png")
    masked = {**here.config["ticket"], "branch": "random_mask"}
    control = dataclasses.replace(here, config={**here.config, "ticket": masked})
    assert transfer_plot._label(control, [control]) == "random_mask of run"
    assert transfer_plot._label(own, [own, own]) == "tickets of its own: own"


# what is taken


@pytest.fixture
def take(source):
    """What the source's own network takes of it."""
    rewound = tickets.load(source, 0).rewound
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rewound)

    def taken(**changed):
        prunable = ("fc1/kernel", "fc2/kernel", "output/kernel")
        head = {"params/output/kernel": (1,), "params/output/bias": (0,)}
        settings = dict(levels=(0, 1), replicates=2, shapes=shapes, prunable=prunable, head=head)
        given = {**settings, **changed}
        section = TicketSpec(source=str(given.pop("source", source)), head=given.pop("how", "auto"))
        return transfer.Taken(spec=section, **given)

    return taken


def fresh(taken):
    return {f"params/{n}": np.full((2, *flat(taken.shapes)[n].shape), 7.0) for n in HEAD}


def test_a_head_that_fits_is_kept_unless_it_is_to_be_replaced(source, take):
    there = tickets.load(source, 1)
    kept, replaced = take(), take(how="replace")
    brought = transfer.bring(kept, 1, fresh(kept))
    small.assert_same_tree(dict(brought.mask), dict(there.mask))
    assert brought.replaced == []
    assert brought.requested["output"] == 0.75
    brought = transfer.bring(replaced, 1, fresh(replaced))
    assert brought.replaced == ["params/output/bias", "params/output/kernel"]
    assert (flat(brought.rewound)["output/kernel"] == 7).all()
    assert brought.mask["output/kernel"].all()
    assert brought.requested == {"fc1": 0.5, "fc2": 0.5, "output": 1.0}
    np.testing.assert_array_equal(brought.mask["fc1/kernel"], there.mask["fc1/kernel"])


def test_the_head_is_what_another_number_of_classes_changes():
    def shapes(classes):
        kernel = jax.ShapeDtypeStruct((3, classes), np.float32)
        return {"params": {"a": {"kernel": jax.ShapeDtypeStruct((4, 3), np.float32)}, "b": kernel}}

    assert transfer.head(shapes(5), shapes(6)) == {"params/b": (1,)}
    assert transfer.head(shapes(5), {}) == {}


def wider(shapes, layer, shape):
    kernel = jax.ShapeDtypeStruct(shape, np.float32)
    return {"params": {**shapes["params"], layer: {**shapes["params"][layer], "kernel": kernel}}}


def test_what_does_not_fit_is_refused_in_a_line_that_names_the_key(source, take, tmp_path):
    def refused(match, **changed):
        with pytest.raises(UserError, match=f"^ticket.source: .*{match}") as caught:
            transfer.check(take(**changed))
        assert "\n" not in str(caught.value)

    shapes = take().shapes
    transfer.check(take())
    refused("fc1/kernel has the shape", shapes=wider(shapes, "fc1", (784, 15)))
    refused("output/kernel has the shape", shapes=wider(shapes, "output", (9, 5)))
    refused("output/kernel has the shape", shapes=wider(shapes, "output", (9, 5)), how="replace")
    renamed = {"params": {"fc0" if k == "fc1" else k: v for k, v in shapes["params"].items()}}
    refused("another network than the config's: params/fc0", shapes=renamed)
    refused("2 replicates, not 3: set replicates=2", replicates=3)
    refused(
        "mask of other arrays .output/kernel differ.: set prune.prunable",
        prunable=("fc1/kernel", "fc2/kernel"),
    )
    refused("no finished levels/02/ticket .finished: levels/00/ticket, levels/01", levels=(0, 2))
    refused("does not exist", source=tmp_path / "nowhere")
    for name in ("damaged", "other"):
        shutil.copytree(source, tmp_path / name)
    about = json.loads((source / "config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps({**about, "command": "pruning"}))
    refused("run of another command, pruning", source=tmp_path / "other")
    files = (tmp_path / "damaged/checkpoints/levels/01/ticket/final").rglob("*")
    largest = max((file for file in files if file.is_file()), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"x")
    refused("levels/01/ticket", source=tmp_path / "damaged")


def test_a_source_in_a_bucket_gives_the_same(source, take, bucket):
    files = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    bucket.send(files, source)
    here, there = take(), take(source=bucket.url)
    one, two = (transfer.bring(taken, 1, fresh(taken)) for taken in (here, there))
    small.assert_same_tree(dict(one.mask), dict(two.mask))
    small.assert_same_tree(one.rewound, two.rewound)
    with pytest.raises(
        UserError, match=r"^ticket.source: s3://.* has no finished levels/02/ticket"
    ):
        transfer.bring(there, 2, {})


def test_a_source_that_has_become_another_run_is_refused(source, target, take, tmp_path):
    levels = SimpleNamespace(context=SimpleNamespace(run=Run(target, id=identity.run_id(target))))
    transfer._check_same(levels, take())
    shutil.copytree(source, tmp_path / "again")
    about = json.loads((source / "config.json").read_text())
    (tmp_path / "again/config.json").write_text(json.dumps({**about, "id": "another"}))
    with pytest.raises(UserError, match=r"ticket.source: .* another run than when this one began"):
        transfer._check_same(levels, take(source=tmp_path / "again"))


# the config


def checked(**overrides):
    config = {"levels": 3, "replicates": 1, "seed": 0, "eval_every": 10}
    base = json.loads(json.dumps(BASE))
    for key, value in {**config, **overrides}.items():
        *sections, last = key.split("__")
        inner = base
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return spec.from_config(base)


@pytest.fixture(autouse=True, scope="module")
def _base(source):
    BASE.update(json.loads((source / "config.json").read_text())["config"])


BASE: dict = {}


def test_levels_of_the_ticket_are_those_that_are_trained():
    some = checked(ticket__source="x", ticket__levels=[2, 9], branches__random_mask="all")
    assert spec.unit_names(some) == [
        "start", "levels/00/ticket", "levels/02/ticket", "levels/02/random_mask",
    ]  # fmt: skip
    ordinary = checked(ticket__levels=2)
    assert ordinary.trained_levels == (0, 1, 2, 3)
    warned = spec.without_effect(
        some, {**BASE, "branches": {"random_mask": [2, 3]}}, ["prune.rate"]
    )
    assert "branches.random_mask: [3] are not trained, since ticket.levels has others" in warned
    assert "prune.rate has no effect: ticket.source has the masks" in warned
    assert "ticket.levels: [9] are not trained, since levels=3" in warned
    assert not any("ticket.levels: " in line for line in spec.without_effect(ordinary, BASE, []))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"branches__finetune": "all"}, "branches.finetune prunes by the weights.* ticket.source"),
        ({"rewind__restore": "state"}, "rewind.restore=state: ticket.source has no"),
        ({"ticket__levels": 0}, "ticket.levels=0 must be 'all' or levels from 1"),
        ({"ticket__branch": "tickets"}, "ticket.branch 'tickets'; did you mean 'ticket'"),
        ({"ticket__head": "keep"}, "unknown ticket.head 'keep'"),
        ({"ticket__from": "x"}, "ticket.from"),
    ],
)
def test_what_the_section_cannot_mean_is_refused(overrides, said):
    with pytest.raises(UserError, match=said):
        checked(**{"ticket__source": "x", **overrides})


def test_a_run_from_before_there_were_such_keys_is_still_the_same(source):
    about = json.loads((source / "config.json").read_text())
    now = identity.Identity(command="lottery", config={**about["config"]})
    del about["config"]["ticket"]
    identity.refuse_other(source, {**about, "command": "lottery"}, now)
