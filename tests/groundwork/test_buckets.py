"""Folders in a bucket, on a real server; addresses and their refusals."""

import sys

import pytest

from groundwork import buckets, paths
from groundwork.errors import UserError
from groundwork.runs import lease, mirror
from groundwork.runs.lease import Lease
from groundwork.runs.mirror import Mirror
from tests import s3


@pytest.fixture
def bucket(s3_login, request):
    return buckets.bucket(f"{s3.BUCKET}/{request.node.name}/run")


@pytest.fixture
def run(bucket, tmp_path):
    """A run with one checkpoint, sent up; its mirror is still open."""
    mirrored = Mirror(bucket, tmp_path / "run")
    mirrored.folder.mkdir()
    mirrored.open()
    _write(mirrored.folder, "config.json", "metrics.jsonl", "c/final/manifest.json", "c/final/a")
    mirrored.send()
    yield mirrored
    mirrored.close()


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


def test_an_object_is_created_once(bucket):
    assert bucket.create("a", b"1")
    assert not bucket.create("a", b"2")
    assert bucket.create("a", b"1")  # ours, if the answer was lost
    assert bucket.read("a") == b"1"
    assert bucket.read("b") is None


def test_an_address_needs_a_bucket_that_is_known(s3_login, monkeypatch):
    for url, words in {
        "http://x/y": "http:// is unknown; buckets are s3://",
        "s3://": "is no address",
        "s3://tests/a//b": "is no address",
        "s3://tests/a[b]": "must do without",
    }.items():
        with pytest.raises(UserError, match=words):
            buckets.bucket(url)
    with pytest.raises(UserError, match="there is no such bucket"):
        buckets.bucket("s3://nobody/run").names()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"pip install 'compression-and-dynamic-networks\[s3\]'"):
        buckets.bucket("s3://tests/run")


def test_without_a_login_one_line_says_how_to_get_one(bucket, monkeypatch):
    for name in s3.LOGIN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(UserError, match=r"it is refused .* log in .*aws configure"):
        buckets.bucket(bucket.url).names()


def test_where_no_address_can_be_given_a_path_is_asked_for():
    with pytest.raises(UserError, match="s3://a/b is an address, which cannot be given here"):
        paths.given("s3://a/b")


def test_an_object_whose_name_leaves_the_folder_is_refused(bucket, monkeypatch):
    monkeypatch.setattr(bucket.files, "find", lambda path: [f"{bucket.url[5:]}/../x"])
    with pytest.raises(UserError, match="cannot be a file's"):
        bucket.names()


def test_a_run_comes_down_as_it_was_sent(run, bucket):
    copy = buckets.near(bucket.url)
    for name in ("config.json", "c/final/a"):
        assert (copy / name).read_text() == name
    assert not (copy / "lock").exists()


def test_manifests_are_sent_last_and_removed_first(run, monkeypatch):
    steps = _order(monkeypatch, run.bucket)
    (run.folder / "c/final").rename(run.folder / "c/old")
    _write(run.folder, "metrics.jsonl", "c/step/manifest.json", "c/step/b")
    (run.folder / "metrics.jsonl").write_text("more")
    run.send()
    sent = [name for what, name in steps if what == "send"]
    seals = ["c/old/manifest.json", "c/step/manifest.json"]
    assert sent == ["c/old/a", "c/step/b", "metrics.jsonl", *seals]
    removed = [("remove", "c/final/manifest.json"), ("remove", "c/final/a")]
    assert steps == [("send", name) for name in sent] + removed
    run.send()
    assert len(steps) == 7  # nothing has changed


def test_a_manifest_that_changes_vouches_for_nothing_meanwhile(run, monkeypatch):
    steps = _order(monkeypatch, run.bucket)
    for name in ("c/final/manifest.json", "c/final/a"):
        (run.folder / name).write_text("another")
    run.send()
    assert steps[0] == ("remove", "c/final/manifest.json")
    assert steps[-1] == ("send", "c/final/manifest.json")


def test_a_folder_with_other_things_is_no_place_for_a_run(bucket, tmp_path):
    bucket.write("thesis.tex", b"")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        Mirror(bucket, tmp_path).begun()


def test_a_bucket_that_does_not_answer_is_tried_again(run, monkeypatch):
    monkeypatch.setattr(mirror, "WAITS", (0.0, 0.0))
    fails = [OSError("gone"), OSError("gone")]
    put = run.bucket.files.put

    def sometimes(*args):
        if fails:
            raise fails.pop()
        return put(*args)

    monkeypatch.setattr(run.bucket.files, "put", sometimes)
    _write(run.folder, "new")
    run.send()
    assert run.bucket.read("new") == b"new"


def test_who_gives_signs_of_life_keeps_the_folder(run, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    another = Lease(run.bucket)
    newest = run._lease

    def beats(seconds):
        run.bucket.write("lock/00000001.json", newest._sign(7))

    monkeypatch.setattr(lease.time, "sleep", beats)
    with pytest.raises(UserError, match=r"is in use by process .*: wait for it, or stop it"):
        another.take()


def test_who_is_silent_loses_the_folder_and_stops(run, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(lease, "DEAD_SECONDS", 0.1)
    another = Lease(run.bucket)
    another.take()
    with pytest.raises(UserError, match="was taken over by another process"):
        run.send()
    another.free()
    third = Lease(run.bucket)
    third.take()  # at once: it is free
    third.free()


def test_of_a_process_that_has_ended_here_nothing_is_waited_for(bucket, monkeypatch):
    dead = Lease(bucket)
    dead._about["pid"] = 2**22 + 1  # above the largest that Linux gives
    dead.take()
    dead._over.set()
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: pytest.fail("it waits"))
    another = Lease(bucket)
    another.take()
    another.free()


def test_copies_that_a_killed_run_left_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(buckets.tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{buckets.SCRATCH}left"
    left.mkdir()
    monkeypatch.setattr(buckets, "NEW_SECONDS", -1)
    with buckets.scratch() as one, buckets.scratch() as two:
        assert one.exists()
        assert two.exists()
        assert not left.exists()
    assert not list(tmp_path.iterdir())
