"""Folders in a bucket, on a real server; addresses and their refusals."""

import errno
import sys

import pytest

from groundwork import buckets, copies, entry, paths
from groundwork.errors import UserError
from groundwork.runs import identity
from tests import s3


def test_an_object_is_created_once(bucket):
    assert bucket.create("a", b"1")
    assert not bucket.create("a", b"2")
    assert bucket.create("a", b"1")  # ours, if the answer was lost
    assert bucket.read("a") == b"1"
    assert bucket.read("b") is None


def test_a_store_may_say_in_any_words_that_an_object_exists(bucket, monkeypatch):
    def refuses(*args, **kwargs):
        raise OSError(errno.EIO, "ConditionalRequestConflict")

    bucket.write("a", b"1")
    monkeypatch.setattr(bucket.files, "pipe_file", refuses)
    assert not bucket.create("a", b"2")
    assert bucket.create("a", b"1")
    with pytest.raises(buckets.BucketError, match="ConditionalRequestConflict"):
        bucket.create("b", b"1")


def test_a_file_in_a_bucket_is_written_and_read_by_its_address(bucket, tmp_path):
    for path in (f"{bucket.url}/a b.npz", tmp_path / "a b.npz"):
        buckets.write(path, b"1")
        assert copies.near_file(path).read_bytes() == b"1"
    with pytest.raises(UserError, match=f"^{bucket.url}/c does not exist$"):
        copies.near_file(f"{bucket.url}/c")


def test_of_a_folder_in_a_bucket_only_what_is_needed_comes_and_nothing_old_stays(bucket):
    for name in ("c", "a/b/e/m", "a/d/m", "a/d/n", "lock/1"):
        bucket.write(name, b"")
    assert _files(copies.near(bucket.url, "a/*/m", "c")) == ["a/b/e/m", "a/d/m", "c"]
    assert _files(copies.near(bucket.url)) == ["a/b/e/m", "a/d/m", "a/d/n", "c"]
    bucket.remove(["c", "a/d/n"])
    assert _files(copies.near(bucket.url, "a/d")) == ["a/b/e/m", "a/d/m", "c"]
    bucket.remove(["a/b/e/m"])
    assert _files(copies.near(bucket.url, "a/*/m", "c")) == ["a/d/m"]
    assert _files(copies.near(bucket.url)) == ["a/d/m"]
    with pytest.raises(UserError, match=f"^{bucket.url}/x does not exist, or is empty$"):
        copies.near(f"{bucket.url}/x")


def test_a_disk_without_room_for_a_copy_is_said(bucket, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    bucket.write("a", b"")
    monkeypatch.setattr(bucket.files, "get", full)
    with pytest.raises(UserError, match=f"^{bucket.url}: there is no room .* let TMPDIR name"):
        copies.near(bucket.url)


def test_an_error_names_the_address_and_not_its_copy(bucket, capsys):
    bucket.write("a/b", b"")
    copy = copies.near(bucket.url)
    said = "a/b of {0}/a is damaged: see {0}/b, /run and s3://c"
    assert copies.told(said.format(copy)) == said.format(bucket.url)
    with pytest.raises(SystemExit):
        entry.run_main(lambda _: identity.read_about(copy))
    said = capsys.readouterr().err
    assert said.startswith(f"error: {bucket.url} holds no readable run: {bucket.url}/config.json")


def _files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


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
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    with pytest.raises(UserError, match=r"pip install 'compression-and-dynamic-networks\[gs\]'"):
        buckets.bucket("gs://tests/run")


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


def test_copies_that_a_killed_run_left_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(copies.tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{copies.SCRATCH}left"
    left.mkdir()
    monkeypatch.setattr(copies, "NEW_SECONDS", -1)
    with copies.scratch() as one, copies.scratch() as two:
        assert one.exists()
        assert two.exists()
        assert not left.exists()
    assert not list(tmp_path.iterdir())
