"""Run folders: identity, units, rows that survive any interruption."""

import json
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork.errors import UserError
from groundwork.runs import checkpoint, identity, metrics, run
from groundwork.runs.identity import Identity

CONFIG = {
    "seed": 1,
    "levels": 3,
    "prune": {"rate": 0.2},
    "data": {"name": "digits", "dir": "/here"},
    "mesh": {"data": 0},
    "log": {"tensorboard": False},
}


def _identity(config, command="lottery", extendable=()):
    return Identity(command=command, config=config, extendable=extendable)


def _open(folder, **changes):
    return run.open_run(folder, _identity({**CONFIG, **changes}, extendable=("levels",)))


def test_a_run_is_opened_again_by_the_same_identity(tmp_path):
    _open(tmp_path / "a")
    before = (tmp_path / "a/config.json").read_bytes()
    _, warnings = _open(
        tmp_path / "a",
        levels=9,
        mesh={"data": 4},
        data={"name": "digits", "dir": "/there"},
        log={"tensorboard": False, "more": 1},
    )
    assert warnings == []
    assert (tmp_path / "a/config.json").read_bytes() == before
    assert len((tmp_path / "a/starts.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 2}, "seed is 1 there, 2 here"),
        ({"prune": {"rate": 0.3}}, "prune.rate is 0.2 there, 0.3 here"),
        ({"data": {"name": "mnist", "dir": ""}}, "data.name is digits there, mnist here"),
        ({"prune": {"rate": 0.2, "new": 1}}, "prune.new is not set there, 1 here"),
        ({"prune": {"rate": {"*": 0.3}}}, r"run: prune.rate is 0.2 there, {'\*': 0.3} here\. Give"),
    ],
)
def test_another_identity_is_refused_with_the_difference(tmp_path, change, said):
    _open(tmp_path / "a")
    with pytest.raises(UserError, match=said):
        _open(tmp_path / "a", **change)


def test_a_run_of_another_command_is_refused_in_few_words(tmp_path):
    _open(tmp_path / "a")
    about = json.loads((tmp_path / "a/config.json").read_text())
    assert about["command"] == "lottery"
    said = r"a holds a run of another command, lottery\.main\. Give another --workdir$"
    with pytest.raises(UserError, match=said):
        run.open_run(tmp_path / "a", _identity({**CONFIG, "seed": 2, "exits": {}}, "msdnet"))
    with pytest.raises(UserError, match=said):  # of the very same config, too
        identity.check_identity(tmp_path / "a", _identity(CONFIG, "msdnet"))


def test_what_reads_a_run_refuses_one_of_another_command_and_names_its_report(tmp_path):
    _open(tmp_path / "a")
    for command in ("lottery", ""):
        assert identity.read_about(tmp_path / "a", command)["config"]["seed"] == 1
    said = r"a run of another command, lottery\.main: give it to lottery\.report$"
    with pytest.raises(UserError, match=said):
        identity.read_about(tmp_path / "a", command="msdnet")


@pytest.mark.parametrize("command", [None, 3])
def test_a_run_that_names_no_command_is_refused(tmp_path, command):
    _open(tmp_path / "a")
    path = tmp_path / "a/config.json"
    about = {**json.loads(path.read_text()), "command": command}
    if command is None:
        del about["command"]
    path.write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"holds no readable run: config\.json names no command$"):
        _open(tmp_path / "a")


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds no run"):
        _open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_without_its_config_is_not_taken_for_a_foreign_folder(tmp_path):
    opened, _ = _open(tmp_path / "a")
    opened.unit("levels/00/ticket").finish({"w": np.ones(2)}, {})
    (tmp_path / "a/config.json").unlink()
    with pytest.raises(UserError, match=r"has checkpoints, but no config\.json"):
        _open(tmp_path / "a")


def test_other_versions_or_another_commit_are_warned_of(tmp_path):
    _open(tmp_path / "a")
    path = tmp_path / "a/config.json"
    began = json.loads(path.read_text())
    path.write_text(json.dumps({**began, "commit": "abc", "versions": {"jax": "0.1"}}))
    _, warnings = _open(tmp_path / "a")
    assert len(warnings) == 2
    assert "jax" in warnings[0]
    assert "abc" in warnings[1]


def test_units_are_done_when_finished_and_keep_their_newest_steps_until_then(tmp_path):
    opened, _ = _open(tmp_path / "a")
    unit = opened.unit("levels/01/ticket")
    tree = {"w": jnp.arange(3.0)}
    for step in (10, 20, 30):
        unit.save(step, {"w": tree["w"] + step}, {"step": step, "rows": 0})
    assert not unit.done
    assert len(list(unit.folder.iterdir())) == 2
    restored, metadata = unit.latest(tree, print)
    assert metadata["step"] == 30
    np.testing.assert_array_equal(restored["w"], [30, 31, 32])
    assert opened.units() == []
    unit.finish(tree, {"x": 1})
    assert unit.done
    assert opened.units() == ["levels/01/ticket"]
    assert [p.name for p in unit.folder.iterdir()] == ["final"]


def test_a_damaged_step_falls_back_to_the_one_before_aloud(tmp_path):
    opened, _ = _open(tmp_path / "a")
    unit = opened.unit("start")
    for step in (10, 20):
        unit.save(step, {"w": jnp.full(500, step)}, {"step": step, "rows": 0})
    files = (p for p in (unit.folder / "step-00000020").rglob("*") if p.parent.name == "d")
    victim = max(files, key=lambda p: p.stat().st_size)
    victim.write_bytes(b"\0" + victim.read_bytes()[1:])
    said = []
    restored, metadata = unit.latest({"w": jnp.zeros(500, int)}, said.append)
    assert metadata["step"] == 10
    assert (np.asarray(restored["w"]) == 10).all()
    assert "step-00000020 is damaged" in said[0]
    assert unit.latest({"w": jnp.zeros(500, int)}, said.append)[1]["step"] == 10


def test_a_damaged_result_is_set_aside_when_the_run_is_opened(tmp_path):
    opened, _ = _open(tmp_path / "a")
    unit = opened.unit("start")
    unit.finish({"w": jnp.ones(4)}, {})
    manifest = unit.folder / "final" / checkpoint.MANIFEST
    manifest.write_text(manifest.read_text().replace('"metadata": {}', '"metadata": {"a": 1}'))
    opened, warnings = _open(tmp_path / "a")
    assert "manifest.json has changed" in warnings[0]
    assert "start is done again" in warnings[0]
    assert opened.units() == []


def _finished(folder, *names, **changes):
    opened, _ = _open(folder, **changes)
    for name in names:
        metrics.append(opened.metrics, [{"unit": name, "n": n} for n in (1, 2)])
        opened.unit(name).finish({"w": jnp.ones(4)}, {})
    return opened


def test_a_unit_of_elsewhere_is_refused_and_left(tmp_path):
    """Its bytes are whole: only what it says of its origin tells."""
    opened = _finished(tmp_path / "a", "levels/00/ticket", "levels/01/ticket")
    other = _finished(tmp_path / "b", "levels/00/ticket")
    final = opened.unit("levels/00/ticket").folder / "final"
    for source, said in (
        (other.unit("levels/00/ticket"), "levels/00/ticket of another run"),
        (opened.unit("levels/01/ticket"), "levels/01/ticket of this run"),
    ):
        shutil.rmtree(final)
        shutil.copytree(source.folder / "final", final)
        opened, warnings = _open(tmp_path / "a")
        assert warnings == []
        with pytest.raises(UserError, match=rf"final is {said}: move it away, and start"):
            opened.check_places(["levels/00/ticket", "levels/01/ticket", "levels/02/ticket"])
        with pytest.raises(UserError, match=said):
            run.result_of(tmp_path / "a", "levels/00/ticket")
        assert final.exists()


def test_folders_of_units_may_be_links(tmp_path):
    opened = _finished(tmp_path / "a", "levels/00/ticket", "start")
    levels = opened.folder / "checkpoints/levels"
    levels.rename(tmp_path / "elsewhere")
    levels.symlink_to(tmp_path / "elsewhere")
    assert opened.units() == ["levels/00/ticket", "start"]
    (levels / "circle").symlink_to("..")
    assert len(opened.units()) > 2  # and it ends


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_where_a_checkpoint_is_to_be_is_moved(tmp_path, kind):
    opened, _ = _open(tmp_path / "a")
    unit = opened.unit("start")
    unit.folder.mkdir(parents=True)
    for name in ("final", "step-00000010", "step-00000001"):
        path = unit.folder / name
        path.write_text("x") if kind == "file" else path.symlink_to("nowhere")
    unit.save(10, {"w": jnp.ones(4)}, {"step": 10, "rows": 0})
    unit.finish({"w": jnp.ones(4)}, {})
    names = ["final", "final.damaged-1", "step-00000010.damaged-1"]
    assert sorted(path.name for path in unit.folder.iterdir()) == names


def test_what_is_where_a_unit_is_to_be_is_named(tmp_path):
    opened, _ = _open(tmp_path / "a")
    (opened.folder / "checkpoints/levels").mkdir(parents=True)
    (opened.folder / "checkpoints/levels/01").write_text("x")
    opened.check_places(["levels/00/ticket"])
    with pytest.raises(UserError, match=r"levels/01 is a file, not a folder: move it away"):
        opened.check_places(["levels/00/ticket", "levels/01/ticket"])


@pytest.mark.parametrize("name", ["figures", "profile", "tensorboard"])
def test_what_is_where_the_run_makes_a_folder_is_named(tmp_path, name):
    opened, _ = _open(tmp_path / "a")
    (opened.folder / name).write_text("x")
    with pytest.raises(UserError, match=f"{name} is a file, not a folder: move it away"):
        opened.check_places([])


def test_without_tensorboardx_a_run_that_asks_for_it_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="needs tensorboardX"):
        _open(tmp_path / "a", log={"tensorboard": True})
    assert not (tmp_path / "a").exists()


def test_a_step_whose_rows_are_lost_falls_back_to_the_one_before_aloud(tmp_path):
    opened, _ = _open(tmp_path / "a")
    unit = opened.unit("start")
    for step in (10, 20):
        opened.record([{"unit": "start", "n": step}])
        unit.save(step, {"w": jnp.full(500, step)}, {"step": step, "rows": step // 10})
    content = opened.metrics.read_bytes()
    for wrong, said in ((content[:-1], "1 of 2 rows are there"), (b"", "0 of 1 rows are there")):
        opened.metrics.write_bytes(wrong)
        warnings = []
        unit.latest({"w": jnp.zeros(500, int)}, warnings.append)
        assert said in warnings[0]
        assert warnings[0].endswith("it is set aside, and the one before it is used")


def test_rows_that_have_changed_are_those_of_no_unit(tmp_path):
    opened = _finished(tmp_path / "a", "start", "other")
    rows = metrics.by_unit(metrics.read(opened.metrics))
    assert run.lost_rows(opened, ["other", "start", "begun"]) == []
    changed = [{**rows["start"][0], "n": 5}, rows["start"][1]]
    assert opened.unit("start").lost_rows({"start": changed}) == "rows have changed"
    assert opened.unit("start").lost_rows({}) == "0 of 2 rows are there"
    opened.metrics.unlink()
    (said,) = run.lost_rows(opened, ["other", "start", "begun"])
    assert said.endswith("no longer all rows of other, start; no result depends on them")


@pytest.mark.parametrize("there", ["~/x", "/home/me/x", "/home/me/x/"])
def test_a_source_is_the_same_however_it_is_typed(tmp_path, monkeypatch, there):
    monkeypatch.setenv("HOME", "/home/me")
    _open(tmp_path / "a", source={"path": there}, distill={"teachers": (f"{there}:u", "before")})
    _, warnings = _open(
        tmp_path / "a",
        source={"path": "~/x"},
        distill={"teachers": (f"{there}:u", "before")},
    )
    assert warnings == []
    with pytest.raises(UserError, match=r"source\.path is .* there, ~/y here"):
        _open(
            tmp_path / "a",
            source={"path": "~/y"},
            distill={"teachers": (f"{there}:u", "before")},
        )


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 99 + "1" + "}" * 99, "9" * 5000, "\xff"])
def test_a_config_json_that_cannot_be_read_is_named(tmp_path, text):
    _open(tmp_path / "a")
    (tmp_path / "a/config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="holds no readable run"):
        _open(tmp_path / "a")


def test_foreign_lines_are_no_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, [{"unit": "a", "n": 1}])
    with open(path, "ab") as file:
        file.write(b"5\n{}\n" + b"[" * 100_000 + b'\n{"unit": 5}\n\xff\n' + b"9" * 5000 + b"\n")
    metrics.append(path, [{"unit": "a", "n": 2}])
    rows = [{"unit": "a", "n": 1}, {"unit": "a", "n": 2}]
    assert metrics.read(path) == metrics.of_unit(path, "a") == rows
    metrics.keep(path, "b", 0)
    assert path.read_bytes().count(b"\n") == 2


def test_a_unit_that_is_set_aside_is_begun_again(tmp_path):
    opened, _ = _open(tmp_path / "a")
    unit, other = opened.unit("sweep/a"), opened.unit("sweep/b")
    assert not unit.set_aside()
    for own in (unit, other):
        own.save(10, {"w": jnp.ones(4)}, {"step": 10, "rows": 0})
    other.finish({"w": jnp.ones(4)}, {})
    assert unit.set_aside()
    assert other.set_aside()
    assert opened.units() == []
    for own in (unit, other):
        assert not own.done
        assert own.latest({"w": jnp.zeros(4)}, print) is None
    assert [p.name for p in unit.folder.iterdir()] == ["step-00000010.damaged-1"]
    assert [p.name for p in other.folder.iterdir()] == ["final.damaged-1"]


def test_rows_of_work_that_is_repeated_are_dropped_and_no_others(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"unit": u, "n": n} for u, n in (("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3))]
    metrics.append(path, rows)
    with open(path, "a") as file:
        file.write('{"unit": "b", "n"')  # a crash in the middle of a row
    assert metrics.read(path) == rows
    metrics.keep(path, "b", 1)
    assert metrics.read(path) == rows[:3]
    metrics.append(path, [{"unit": "c", "n": 1}])
    assert metrics.read(path) == [*rows[:3], {"unit": "c", "n": 1}]
    before = path.stat().st_mtime_ns
    metrics.keep(path, "b", 1)
    assert path.stat().st_mtime_ns == before  # nothing to drop, nothing written


def test_rows_behind_an_unreadable_line_are_dropped_with_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, [{"unit": "a", "n": 1}])
    with open(path, "ab") as file:  # what a power cut leaves of a page
        file.write(b"\0" * 50 + b'\n"half"}\n')
    assert metrics.read(path) == [{"unit": "a", "n": 1}]
    metrics.keep(path, "b", 0)
    assert path.read_bytes() == b'{"unit": "a", "n": 1}\n'


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "starts.jsonl"
    path.write_text('{"half')
    metrics.append(path, [{"n": 1}])
    assert path.read_text() == '{"half\n{"n": 1}\n'


def test_a_kill_while_the_config_was_written_leaves_the_folder_usable(tmp_path):
    (tmp_path / "config.json.part").write_text('{"con')
    opened, _ = _open(tmp_path)
    assert json.loads((opened.folder / "config.json").read_text())["config"]["seed"] == 1


def test_other_data_and_devices_are_warned_of(tmp_path):
    run.open_run(tmp_path, _identity(CONFIG), facts={"data": "abc"})
    _, warnings = run.open_run(tmp_path, _identity(CONFIG), facts={"data": "def"})
    assert warnings == ["this run began with data abc, now def"]


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path):
    with (
        run.locked(tmp_path / "a"),
        pytest.raises(UserError, match="in use by another process"),
        run.locked(tmp_path / "a"),
    ):
        pass
    with run.locked(tmp_path / "a"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"), run.locked(tmp_path / "file"):
        pass


def test_what_a_cut_off_save_left_goes_when_the_unit_is_done(tmp_path):
    opened, _ = _open(tmp_path / "a")
    unit = opened.unit("start")
    for name in ("step-00000010", "step-00000020.orbax-checkpoint-tmp", "step-00000030.damaged-1"):
        (unit.folder / name).mkdir(parents=True)
    unit.finish({"w": jnp.ones(2)}, {})
    assert sorted(p.name for p in unit.folder.iterdir()) == ["final", "step-00000030.damaged-1"]


def test_mean_and_spread_are_the_samples():
    mean, spread = metrics.mean_and_spread([0.1, 0.2, 0.6])
    assert mean == pytest.approx(0.3)
    assert spread == pytest.approx(np.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert metrics.mean_and_spread([0.5]) == (0.5, 0.0)


ROW = {
    "unit": "start",
    "step": 7,
    "replicate": 1,
    "split": "train",
    "loss": 0.5,
    "accuracy": 0.25,
    "seconds": 0.1,
}


def test_what_a_row_measures_stands_between_its_split_and_its_seconds():
    assert metrics.measured(ROW) == ["loss", "accuracy"]


OLD = {  # as the first runs have it in config.json: without the keys that came later
    "model": {"name": "lenet_300_100", "width": 1.0},
    "data": {"name": "digits", "source": "digits", "dir": "", "validation_examples": 0}
    | {"split_seed": 0, "standardize": True},
    "checkpoint": {"every_seconds": 60.0},
    "log": {"tensorboard": False},
}


def _as_today(model=None, **data):
    base = config_lib.resolve(config_lib.load("configs/lottery/base.py"))
    config = {name: base[name] for name in OLD}
    model = {**config["model"], **(model or {})}
    return _identity({**config, "model": model, "data": {**config["data"], **data}})


def test_a_run_of_before_a_key_was_added_is_the_run_with_its_default(tmp_path):
    run.open_run(tmp_path / "a", _identity(OLD))
    _, warnings = run.open_run(tmp_path / "a", _as_today(workers=3))  # workers change no result
    assert warnings == []
    for key, value in (("stream", True), ("augment", "crop_flip"), ("mean", (0.5,))):
        with pytest.raises(UserError, match=f"data.{key} is"):
            run.open_run(tmp_path / "a", _as_today(**{key: value}))
    with pytest.raises(UserError, match=r"model\.dtype is float32 there, bfloat16 here"):
        run.open_run(tmp_path / "a", _as_today(model={"dtype": "bfloat16"}))


class TestOwn:
    """Runs of a user's own code, which is known by digests."""

    CODE = ("model.name", "loss")

    def _open(self, folder, own, versions=None, **changes):
        config = {**CONFIG, "model": {"name": "mine:Net"}, "loss": "mine:loss", **changes}
        opened, warnings = run.open_run(folder, Identity(command="x", config=config, own=own))
        if versions:
            about = json.loads((folder / "config.json").read_text())
            about["versions"] |= versions
            (folder / "config.json").write_text(json.dumps(about))
        return opened, warnings

    def test_the_same_code_continues_and_is_recorded(self, tmp_path):
        own = dict.fromkeys(self.CODE, "abc")
        for _ in range(2):
            assert self._open(tmp_path / "a", own)[1] == []
        assert json.loads((tmp_path / "a/config.json").read_text())["own"] == own

    def test_what_has_changed_is_named(self, tmp_path):
        own = dict.fromkeys(self.CODE, "abc")
        self._open(tmp_path / "a", own)
        with pytest.raises(UserError, match=r"run: model.name=mine:Net computes something else"):
            self._open(tmp_path / "a", {**own, "model.name": "other"})
        with pytest.raises(UserError, match=r"loss=mine:loss and model.name=mine:Net computes"):
            self._open(tmp_path / "a", dict.fromkeys(self.CODE, "other"))

    def test_another_jax_may_be_the_reason(self, tmp_path):
        own = dict.fromkeys(self.CODE, "abc")
        self._open(tmp_path / "a", own, versions={"jax": "0.1"})
        with pytest.raises(UserError, match=r"\(or JAX \d.* writes it otherwise than JAX 0.1\)"):
            self._open(tmp_path / "a", dict.fromkeys(self.CODE, "other"))

    def test_without_digests_the_config_alone_is_compared(self, tmp_path):
        self._open(tmp_path / "a", dict.fromkeys(self.CODE, "abc"))
        self._open(tmp_path / "a", None)
        with pytest.raises(UserError, match="loss is mine:loss there, other here"):
            self._open(tmp_path / "a", None, loss="other")

    def test_shipped_code_is_not_recorded_and_runs_without_the_key_have_the_cross_entropy(
        self, tmp_path
    ):
        _open(tmp_path / "a")
        assert "own" not in json.loads((tmp_path / "a/config.json").read_text())
        _open(tmp_path / "a", loss="cross_entropy", loss_kwargs={})
        with pytest.raises(UserError, match="loss is cross_entropy there, mean_squared_error here"):
            _open(tmp_path / "a", loss="mean_squared_error")
