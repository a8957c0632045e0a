"""A run in a bucket, on a real server: killed and continued, it ends as one in a folder does."""

import functools

import pytest

from groundwork import copies
from groundwork.buckets import Bucket, BucketError
from groundwork.runs import lease
from tests import s3
from tests.groundwork.runs import test_tensorboard
from tests.lottery import small

FEW = [
    "--config.levels=1",
    "--config.replicates=1",
    "--config.train.steps=20",
    "--config.rewind.step=0",
    "--config.branches.small_dense=()",
    "--config.branches.random_mask=()",
    "--config.branches.random_reinit=()",
]
UNITS = [(0, "ticket"), (1, "ticket")]


class KilledError(Exception):
    """Stands for the end of a process: nothing that it does later reaches the bucket."""


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A run in a folder, which nothing disturbed."""
    folder = tmp_path_factory.mktemp("local") / "run"
    small.train(folder, *FEW)
    return folder


@pytest.fixture
def kill(monkeypatch):
    """Trains in a bucket, and dies instead of sending the object of this name."""
    monkeypatch.setattr(lease, "DEAD_SECONDS", 0.0)  # this process lives on
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.0)

    def train(url, last):
        dead = []

        def one_by_one(call, bucket, names, *rest):
            for name in names:
                if dead:
                    raise BucketError("dead")
                if name == f"checkpoints/{last}":
                    dead.append(name)
                    raise KilledError
                call(bucket, [name], *rest)

        with monkeypatch.context() as patch:
            for name in ("send", "remove"):
                call = functools.partial(one_by_one, getattr(Bucket, name))
                patch.setattr(Bucket, name, functools.partialmethod(_called, call))
            with pytest.raises(KilledError):
                small.train(url, *FEW)

    return train


def _called(bucket, call, *args):
    return call(bucket, *args)


def test_killed_in_the_middle_of_a_copy_and_continued_it_is_the_same(s3_login, local, kill):
    url = f"{s3.BUCKET}/lottery/run"
    kill(url, "levels/01/ticket/final/manifest.json")
    small.train(url, *FEW, "--config.log.tensorboard=true")
    copy = copies.near(url)
    small.assert_same_run(local, copy, UNITS)
    lines = test_tensorboard.lines(copy / "tensorboard")
    assert lines["levels/01/ticket/replicate-0"]["test-end/accuracy"][0] == 20  # the last row, too
