"""Folders in a bucket, on a real server; addresses and their refusals."""

import sys

import pytest

from groundwork import buckets, copies, paths
from groundwork.errors import UserError
from tests import s3


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
