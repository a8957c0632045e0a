"""Decoded images that are kept: the batches are the same, and damage or a full disk is no harm."""

import dataclasses
import errno
import itertools
import os
import pickle
import shutil
import weakref

import grain
import numpy as np
import pytest

from groundwork.data import augment, cache, decoding, file_dataset, loader
from groundwork.data.dataset import DataSpec
from groundwork.devices import memory
from groundwork.errors import UserError
from tests.conftest import ROOT
from tests.groundwork.data.batches import assert_equal, train
from tests.groundwork.memory import images_of, streams_of

TFDS = ROOT / "tests/fixtures/tfds"
KEY = ((0, 0), 3)


def example(number=0, size=(5, 4, 3)):
    return np.random.default_rng(number).integers(0, 256, size, np.uint8), number


def folder_of(path):
    return cache.made(f"{path}/", 0, "a.name", 3, 0)


def cached(streams, kept):
    return streams._replace(train=dataclasses.replace(streams.train, cache=kept))


def grains_own(streams, count, seeds, batch_size, kind, size):
    """The batches as Grain's transformations of single examples make them."""

    def view(row, rng):
        return augment.training(row["image"], rng, kind, size), np.int32(row["label"])

    def of_seed(seed):
        order, words = (loader._word(seed, name) for name in ("order", "augment"))
        shuffled = grain.MapDataset.source(streams.train).shuffle(seed=order).repeat()
        return shuffled.random_map(view, seed=words).batch(batch_size)

    made = [[of_seed(seed)[step] for seed in seeds] for step in range(count)]
    images, labels = ([[pair[k] for pair in step] for step in made] for k in range(2))
    return np.stack([np.stack(step) for step in images]), np.asarray(labels)


@pytest.mark.parametrize("kind", augment.AUGMENTS)
@pytest.mark.parametrize("size", [0, 5])
def test_examples_orders_and_augmentation_are_grains(kind, size):
    if kind == "resized_crop" and not size:
        pytest.skip("needs a size")
    streams = streams_of(images_of(7))
    streams = streams._replace(shape=(size or 6, size or 6, 3))
    theirs = grains_own(streams, 6, (3, 2**40), 4, kind, size)
    for kept in (None, {}):
        ours = train(
            cached(streams, kept), 6, seeds=(3, 2**40), batch_size=4, kind=kind, image_size=size
        )
        assert_equal(ours, theirs)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_each_image_is_decoded_once_for_all_replicates_and_epochs(where, tmp_path, monkeypatch):
    kept = {} if where == "memory" else folder_of(tmp_path)
    streams = cached(streams_of(images_of(10)), kept)
    contents = {id(record["image"]) for record in streams.train.records}
    decoded, decode = [], decoding.decode

    def counted(content, channels):
        if id(content) in contents:  # threads of an earlier test may still read
            decoded.append(content)
        return decode(content, channels)

    monkeypatch.setattr(decoding, "decode", counted)
    monkeypatch.setattr(loader, "THREADS", 1)  # two would decode an image each that both lack
    first = train(streams, 9, seeds=(1, 2), batch_size=5, kind="crop_flip")
    assert len(decoded) == 10
    assert_equal(train(streams, 9, seeds=(1, 2), batch_size=5, kind="crop_flip"), first)
    assert len(decoded) == 10


def test_workers_share_a_folder(tmp_path):
    streams = streams_of(images_of(10))
    common = dict(seeds=(1, 2), batch_size=5, kind="crop_flip")
    first = train(cached(streams, folder_of(tmp_path)), 6, workers=2, **common)
    assert_equal(first, train(streams, 6, **common))
    again = pickle.loads(pickle.dumps(folder_of(tmp_path)))
    assert sum(again.get(((0, 0), place)) is not None for place in range(10)) == 10


def test_a_folder_gives_what_was_put_also_to_others(tmp_path):
    ours, theirs = folder_of(tmp_path), folder_of(tmp_path)
    for number, size in enumerate([(5, 4, 3), (1, 1, 3), (30, 2, 3)]):
        ours[(0, 0), number] = example(number, size)
        theirs[(0, 0), number + 9] = example(number + 9, size)
        for place, one in itertools.product((number, number + 9), (ours, theirs)):
            image, label = one.get(((0, 0), place))
            np.testing.assert_array_equal(image, example(place, size)[0])
            assert label == place
    assert ours.get(((0, 0), 5)) is ours.get(((0, 0), 99)) is ours.get(((8, 8), 0)) is None


@pytest.mark.parametrize("suffix", ["index", "pixels"])
@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_what_is_damaged_is_decoded_again(tmp_path, suffix, damage):
    folder_of(tmp_path)[KEY] = example(3)
    (path,) = tmp_path.glob(f"*.{suffix}")
    content = bytearray(path.read_bytes())
    for at in (
        [len(content) - 1] if damage == "cut" else range(72 * (suffix == "index"), len(content))
    ):
        changed = content[:at] if damage == "cut" else content[:at] + bytes([content[at] ^ 64])
        path.write_bytes(changed + (b"" if damage == "cut" else content[at + 1 :]))
        again = folder_of(tmp_path)
        assert again.get(KEY) is None
    again[KEY] = example(3)
    np.testing.assert_array_equal(again.get(KEY)[0], example(3)[0])


def test_a_disk_that_is_full_or_too_small_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"needs 1.0 EiB for decoded images, .*data\.cache=none"):
        cache.check_room(f"{tmp_path}/not/yet", {("a.name", (0, 0)): 2**60})
    kept = folder_of(tmp_path)
    monkeypatch.setattr(os, "write", lambda *_: 3)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        kept[KEY] = example()
    assert kept.get(KEY) is None


def test_what_is_in_a_folder_needs_no_room_but_what_is_there_of_others_does(tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    folder_of(tmp_path)[KEY] = example()
    whole = {("a.name", (0, 0)): example()[0].nbytes}
    cache.check_room(f"{tmp_path}/", whole | {("another", (0, 0)): 10})
    with pytest.raises(UserError, match=r"needs 0\.0 KiB .* has 0\.0 KiB left"):
        cache.check_room(f"{tmp_path}/", whole | {("another", (0, 0)): 11})
    with pytest.raises(UserError, match="left: free some"):
        cache.check_room(f"{tmp_path}/", {("a.name", (8, 8)): 11})
    for kind in ("memory", "auto", "none"):
        cache.check_room(kind, {("a.name", (8, 8)): 11})


def test_a_set_is_opened_where_its_images_fit_or_are_already(tmp_path, monkeypatch):
    spec = DataSpec("tiny_digits", "tfds", dir=str(TFDS), stream=True, cache=f"{tmp_path}/kept")
    opened = file_dataset.open_files(spec)
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match=r"data\.cache=.*kept needs 5\.6 KiB"):
        file_dataset.open_files(spec)
    for source in (opened.train, opened.test):
        source.examples(np.arange(len(source)))
    file_dataset.open_files(spec)


def test_an_index_that_asks_for_more_than_there_is_asks_for_nothing(tmp_path, monkeypatch):
    folder_of(tmp_path)[KEY] = example(3)
    (path,) = tmp_path.glob("*.index")
    path.write_bytes(bytes(72) + cache.ENTRY.pack(0, 2**31 - 1, 2**31 - 1, 3, 0))
    assert folder_of(tmp_path).get(KEY) is None


def test_a_disk_that_cannot_be_read_is_said_in_one_line(tmp_path, monkeypatch):
    kept = folder_of(tmp_path)
    kept[KEY] = example(3)

    def gone(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "pread", gone)
    with pytest.raises(UserError, match=r"cannot be read \(Stale file handle\): give another"):
        kept.get(KEY)


def test_files_are_closed_with_their_cache_but_not_under_threads_that_outlive_it(
    tmp_path, monkeypatch
):
    made, finalize = [], weakref.finalize
    monkeypatch.setattr(weakref, "finalize", lambda *a: made.append(finalize(*a)) or made[-1])
    kept = folder_of(tmp_path)
    kept[KEY] = example()
    assert [(one.alive, one.atexit) for one in made] == [(True, False)] * 2
    del kept
    assert not any(one.alive for one in made)


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache=.*file/inner cannot be written"):
        folder_of(tmp_path / "file/inner")


def test_memory_that_does_not_suffice_is_refused_or_not_used(monkeypatch):
    monkeypatch.setattr(memory, "of_machine", lambda: 1000)
    with pytest.raises(UserError, match=r"needs 0.7 KiB .* has 1.0 KiB: set data\.cache=none"):
        cache.made("memory", 0, "name", 3, 751)
    assert cache.made("memory", 0, "name", 3, 750) == {}
    assert cache.made("auto", 0, "name", 3, 251) is None
    assert cache.made("auto", 1, "name", 3, 250) is None
    assert cache.made("auto", 0, "name", 3, 250) == {}
    assert cache.made("none", 0, "name", 3, 1) is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (dict(cache="memroy"), r"did you mean 'memory'.*or a folder: \./memroy"),
        (dict(cache="memory", workers=2), r"data\.workers=2: set data\.workers=0, or .*FOLDER"),
        (dict(cache="memory", stream=False), r"data\.cache='memory' needs data\.stream=True"),
    ],
)
def test_what_cannot_be_a_cache_is_refused(section, said):
    with pytest.raises(UserError, match=said):
        DataSpec(**{**dict(name="tiny_digits", source="tfds", stream=True), **section})


@pytest.mark.parametrize("where", ["auto", "none", "folder"])
def test_an_opened_set_has_its_cache_and_the_same_batches(where, tmp_path):
    base = dict(name="tiny_digits", source="tfds", dir=str(TFDS), stream=True, image_size=6)
    kind = f"{tmp_path}/kept" if where == "folder" else where
    spec = DataSpec(**base, validation_examples=9, augment="crop_flip", cache=kind)
    opened = file_dataset.open_files(spec)
    made = loader.train_batches(opened, spec, [1], 0, batch_size=51, parts=1, part=0)
    images, _ = next(made)
    made.close()
    if where == "none":
        assert opened.train.cache is opened.test.cache is None
        return
    window = augment.evaluation_window("crop_flip", 6)
    assert opened.train.cache is opened.validation.cache
    held = [opened.train.cache.get((window, place)) is not None for place in range(60)]
    assert sorted(np.flatnonzero(held)) == sorted(opened.train.places)
    plain = DataSpec(**base, validation_examples=9, augment="crop_flip", cache="none")
    made = loader.train_batches(
        file_dataset.open_files(plain), plain, [1], 0, batch_size=51, parts=1, part=0
    )
    np.testing.assert_array_equal(next(made)[0], images)
    made.close()


def test_another_set_has_other_files_in_the_folder(tmp_path):
    shutil.copytree(TFDS, tmp_path / "tfds")
    base = dict(name="tiny_digits", source="tfds", stream=True, cache=f"{tmp_path}/kept")
    base["standardize"] = False  # the training images are damaged below
    names, tests = [], set()
    (path,) = (tmp_path / "tfds").rglob("*train*.array_record*")
    for change in ("none", "longer", "written again"):
        if change == "longer":
            with open(path, "ab") as file:
                file.write(bytes(1))
        if change == "written again":  # with other labels, for example
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        opened = file_dataset.open_files(DataSpec(**base, dir=str(tmp_path / "tfds")))
        names.append(opened.train.cache.name)
        tests.add(opened.test.cache.name)
    assert len(set(names)) == 3
    assert len(tests) == 1  # its files are as they were
