"""A run that works in a copy of a bucket's folder, on a real server; who holds the folder."""

import contextlib
import fnmatch
import hashlib
import json
from pathlib import PurePosixPath

import numpy as np
import pytest

from groundwork import buckets, copies
from groundwork.errors import UserError
from groundwork.runs import lease, mirror
from groundwork.runs import run as run_lib
from groundwork.runs.checkpoint import DamagedError
from groundwork.runs.identity import Identity
from groundwork.runs.lease import Lease
from groundwork.runs.mirror import Mirror


@pytest.fixture
def mirrored(bucket, tmp_path):
    """A run with one checkpoint, sent up; its mirror is still open."""
    made = Mirror(bucket, tmp_path / "run")
    made.folder.mkdir()
    made.open()
    _write(made.folder, "config.json", "metrics.jsonl", "c/final/manifest.json", "c/final/a")
    made.send()
    yield made
    made.close()


def _write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def _order(monkeypatch, bucket):
    """What is sent and removed from now on."""
    steps = []
    cls = type(bucket)
    for name in ("send", "remove"):
        call = getattr(cls, name)

        def noted(self, names, *rest, name=name, call=call):
            names = list(names)
            steps.extend((name, one) for one in names if not one.startswith(buckets.LOCKS))
            return call(self, names, *rest)

        monkeypatch.setattr(cls, name, noted)
    return steps


def test_a_run_comes_down_as_it_was_sent(mirrored, bucket):
    copy = copies.near(bucket.url)
    for name in ("config.json", "c/final/a"):
        assert (copy / name).read_text() == name
    assert not (copy / "lock").exists()


def test_manifests_are_sent_last_and_removed_first(mirrored, monkeypatch):
    steps = _order(monkeypatch, mirrored.bucket)
    (mirrored.folder / "c/final").rename(mirrored.folder / "c/old")
    _write(mirrored.folder, "metrics.jsonl", "c/step/manifest.json", "c/step/b")
    (mirrored.folder / "metrics.jsonl").write_text("more")
    mirrored.send()
    sent = [name for what, name in steps if what == "send"]
    seals = ["c/old/manifest.json", "c/step/manifest.json"]
    assert sent == ["c/old/a", "c/step/b", "metrics.jsonl", *seals]
    removed = [("remove", "c/final/manifest.json"), ("remove", "c/final/a")]
    assert steps == [("send", name) for name in sent] + removed
    mirrored.send()
    assert len(steps) == 7  # nothing has changed


def test_a_manifest_that_changes_vouches_for_nothing_meanwhile(mirrored, monkeypatch):
    steps = _order(monkeypatch, mirrored.bucket)
    for name in ("c/final/manifest.json", "c/final/a"):
        (mirrored.folder / name).write_text("another")
    mirrored.send()
    assert steps[0] == ("remove", "c/final/manifest.json")
    assert steps[-1] == ("send", "c/final/manifest.json")


def test_a_folder_with_other_things_is_no_place_for_a_run(bucket, tmp_path):
    bucket.write("thesis.tex", b"")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        Mirror(bucket, tmp_path).begun()


def test_a_bucket_that_does_not_answer_is_tried_again(mirrored, monkeypatch):
    monkeypatch.setattr(mirror, "WAITS", (0.0, 0.0))
    fails = [OSError("gone"), OSError("gone")]
    put = mirrored.bucket.files.put

    def sometimes(*args):
        if fails:
            raise fails.pop()
        return put(*args)

    monkeypatch.setattr(mirrored.bucket.files, "put", sometimes)
    _write(mirrored.folder, "new")
    mirrored.send()
    assert mirrored.bucket.read("new") == b"new"


# whole runs


CONFIG = {"seed": 1, "log": {"tensorboard": False}}
IDENTITY = Identity(command="lottery", config=CONFIG, extendable=())


@contextlib.contextmanager
def _opened(bucket):
    """The run of a bucket, as a command opens it, and the warnings."""
    with mirror.opened(bucket.url) as (folder, mirrored), run_lib.locked(folder, mirrored):
        run, warnings = run_lib.open_run(folder, IDENTITY, bucket=mirrored)
        run.send()
        yield run, warnings


def _train(run, units=("a", "b")):
    """Saves twice within each unit, and at its end."""
    for name in units:
        unit = run.unit(name)
        for step in (1, 2, 3):
            run.record([{"unit": name, "step": step}])
            tree, about = {"params": {"x": np.full(4, step, "f4")}}, {"rows": step}
            unit.save(step, tree, about) if step < 3 else unit.finish(tree, about)


def _damaged(objects):
    """The manifests that vouch for what is not there, as the bytes stand."""
    for name, data in objects.items():
        if PurePosixPath(name).name == "manifest.json":
            below = name.removesuffix("manifest.json")
            digests = json.loads(data)["body"]["files"]
            found = {k: hashlib.sha256(objects.get(below + k, b"")).hexdigest() for k in digests}
            if found != digests:
                yield name


def test_whenever_a_run_is_killed_its_bucket_has_whole_checkpoints_and_their_rows(
    bucket, monkeypatch
):
    objects, states = {}, []
    send, remove = buckets.Bucket.send, buckets.Bucket.remove

    def note_sent(self, names, folder):
        send(self, names, folder)
        for name in names:
            objects[name] = (folder / name).read_bytes()
            states.append(dict(objects))

    def note_removed(self, names):
        remove(self, names := list(names))
        for name in names:
            objects.pop(name, None)
            states.append(dict(objects))

    monkeypatch.setattr(buckets.Bucket, "send", note_sent)
    monkeypatch.setattr(buckets.Bucket, "remove", note_removed)
    with _opened(bucket) as (run, _):
        _train(run)
    assert len(states) > 50
    newest = {"a": 0, "b": 0}
    for state in states:
        assert list(_damaged(state)) == []
        rows = state.get("metrics.jsonl", b"").splitlines()
        for unit in newest:
            at = f"checkpoints/{unit}/*/manifest.json"
            manifests = [json.loads(state[name]) for name in fnmatch.filter(state, at)]
            steps = [manifest["body"]["metadata"]["rows"] for manifest in manifests]
            assert max(steps, default=0) >= newest[unit]  # one that was there is not lost
            newest[unit] = max(steps, default=0)
            assert sum(json.loads(row)["unit"] == unit for row in rows) >= newest[unit]
    assert newest == {"a": 3, "b": 3}


def test_a_byte_that_changes_in_the_bucket_is_told_and_its_unit_done_again(bucket):
    with _opened(bucket) as (run, _):
        _train(run)
    (name,) = [n for n in bucket.names("checkpoints/a/final") if n.endswith("/_METADATA")]
    data = bytearray(bucket.read(name))
    data[len(data) // 2] ^= 1
    bucket.write(name, bytes(data))
    with pytest.raises(DamagedError, match="_METADATA is not as it was written"):
        run_lib.result_of(bucket.url, "a")
    with _opened(bucket) as (run, (warning,)):
        assert "_METADATA is not as it was written; it is set aside, and a is done" in warning
        assert run.units() == ["b"]
        _train(run, "a")
    assert bucket.read(name.replace("final", "final.damaged-1")) == bytes(data)
    np.testing.assert_array_equal(run_lib.result_of(bucket.url, "a")["params"]["x"], [3] * 4)


def test_of_a_unit_that_is_not_there_the_others_are_listed(bucket):
    with _opened(bucket) as (run, _):
        _train(run, "b")
    with pytest.raises(UserError, match=r"run has no finished a \(finished: b\)$"):
        run_lib.result_of(bucket.url, "a")


def test_a_second_run_in_the_folder_is_refused(bucket, monkeypatch):
    with _opened(bucket) as (run, _):
        holder, signs = run.bucket._lease, iter((7, 8))

        def beats(seconds):
            bucket.write("lock/00000001.json", holder._sign(next(signs)))

        monkeypatch.setattr(lease.time, "sleep", beats)
        with pytest.raises(UserError, match=f"^{bucket.url} is in use by process"), _opened(bucket):
            pass
        run.send()  # the first one has lost nothing


def test_what_a_run_writes_as_it_is_stopped_is_kept(bucket):
    def stopped():
        with _opened(bucket) as (run, _):
            (run.folder / "run.log").write_text("saved")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert bucket.read("run.log") == b"saved"


def test_what_fails_at_the_end_hides_no_error_and_leaves_the_folder_to_others(bucket, monkeypatch):
    def fails(self, names, folder):
        raise OSError(5, "no disk", str(folder))

    def stopped():
        with _opened(bucket) as (run, _):
            (run.folder / "run.log").write_text("more")
            monkeypatch.setattr(buckets.Bucket, "send", fails)
            raise UserError("the first")

    with pytest.raises(UserError, match=r"^the first$"):
        stopped()
    assert json.loads(bucket.read("lock/00000001.json"))["free"]


def test_an_error_of_a_run_names_its_address(bucket):
    def wrong():
        with _opened(bucket) as (run, _):
            raise UserError(f"{run.folder}/checkpoints/a is wrong")

    with pytest.raises(UserError, match=f"^{bucket.url}/checkpoints/a is wrong"):
        wrong()


def test_of_a_folder_that_came_down_in_part_nothing_is_sent(bucket, monkeypatch):
    with _opened(bucket) as (run, _):
        (run.folder / "run.log").write_text("whole")

    def breaks(self, names, folder):
        (folder / "run.log").write_text("wh")
        raise buckets.BucketError("gone")

    monkeypatch.setattr(buckets.Bucket, "bring", breaks)
    with pytest.raises(UserError, match="gone"), _opened(bucket):
        pass
    assert bucket.read("run.log") == b"whole"


def test_a_log_goes_up_alone_and_other_processes_add_theirs(mirrored):
    _write(mirrored.folder, "run.log", "profile/process-1/trace", "more")
    mirrored.send_log()
    mirrored.add(mirrored.folder / "profile")
    for name in ("run.log", "profile/process-1/trace"):
        assert mirrored.bucket.read(name) == name.encode()
    assert mirrored.bucket.read("more") is None
    mirrored.folder.joinpath("run.log").unlink()
    mirrored.send_log()  # the process ends itself: nothing may keep it from that


# who holds the folder


def test_who_gives_signs_of_life_keeps_the_folder(mirrored, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    another = Lease(mirrored.bucket)
    newest, signs = mirrored._lease, iter((7, 8))

    def beats(seconds):
        mirrored.bucket.write("lock/00000001.json", newest._sign(next(signs)))

    monkeypatch.setattr(lease.time, "sleep", beats)
    with pytest.raises(UserError, match=r"is in use by process .*: wait for it, or stop it"):
        another.take()


def test_who_is_silent_loses_the_folder_and_stops(mirrored, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(lease, "DEAD_SECONDS", 0.1)
    another = Lease(mirrored.bucket)
    another.take()
    with pytest.raises(UserError, match="was taken over by another process"):
        mirrored.send()
    another.free()
    third = Lease(mirrored.bucket)
    third.take()  # at once: it is free
    third.free()


def test_who_fails_once_it_has_the_folder_leaves_it_to_others(bucket, monkeypatch):
    def fails(self, names):
        raise buckets.BucketError("gone")

    monkeypatch.setattr(buckets.Bucket, "remove", fails)
    with pytest.raises(buckets.BucketError, match="gone"), _opened(bucket):
        pass
    assert json.loads(bucket.read("lock/00000001.json"))["free"]


def test_signs_of_life_wait_for_no_copy(bucket, mirrored):
    """S3's client has ten connections, and a copy of many files takes all of them."""
    copying, signing = mirrored.bucket, mirrored._lease._bucket
    assert signing.url == copying.url
    assert signing.files is not copying.files


def test_of_a_process_that_has_ended_here_nothing_is_waited_for(bucket, monkeypatch):
    dead = Lease(bucket)
    dead._about["pid"] = 2**22 + 1  # above the largest that Linux gives
    dead.take()
    dead._over.set()
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: pytest.fail("it waits"))
    another = Lease(bucket)
    another.take()
    another.free()
