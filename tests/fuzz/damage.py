"""Ways to damage the folder of a run, each chosen and done by a seeded generator."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

WRITTEN = (".json", ".jsonl", ".log")  # files that commands append to or read as text
HOSTILE = [  # lines and whole files
    b"",
    b"5",
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b"NaN",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 200 + b"1" + b"}" * 200,
    b"\xff\xfe\x00{",
    b"\0" * 4096,
    b"x" * 1_000_000,
    b'{"unit": 5}',
    b'{"unit": "start", "step": "ten", "split": [], "replicate": NaN, "at": "end"}',
    b'{"unit": "levels/00/ticket", "split": "test", "at": "end", "accuracy": "high"}',
    b'{"body": 5, "sha256": 5}',
    b'{"command": "lottery", "config": {}}',
    b'{"command": "lottery", "config": {"replicates": 1}, "metric": {"name": 5}}',
]


def copied(folder: Path, to: Path) -> Path:
    """Returns a copy; files that are written once are hard links, which is quick."""
    shutil.copytree(folder, to, copy_function=_copy, symlinks=True)
    return to


def one(rng: np.random.Generator, folder: Path, other: Path) -> str:
    """Damages one file or folder inside of a run, and says how; `other` is another run."""
    inside = sorted(folder.rglob("*"))
    known = [path for path in inside if path.suffix in WRITTEN]
    path = inside[rng.integers(len(inside))]
    if rng.random() < 0.6:
        path = known[rng.integers(len(known))]
    ways = FOLDERS if path.is_dir() else FILES
    way = ways[rng.integers(len(ways))]
    if rng.random() < 0.1:  # what is whole, but not this unit's, is the hardest to tell
        units = [unit for unit in inside if unit.name == "final"]
        way, path = foreign, units[rng.integers(len(units))]
        inside = units
    there = other / path.relative_to(folder)
    pool = [there] if there.exists() and rng.random() < 0.7 else inside
    way(rng, path, pool[rng.integers(len(pool))])
    return f"{way.__name__} {path.relative_to(folder)}"


def _copy(source: str, target: str) -> None:
    if source.endswith(WRITTEN) and not source.endswith("manifest.json"):
        shutil.copy(source, target)
    else:
        os.link(source, target)


def _written(path: Path, content: bytes) -> None:
    """Writes a new file, since the old one may be a hard link."""
    path.unlink()
    path.write_bytes(content)


def _gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def removed(rng: np.random.Generator, path: Path, other: Path) -> None:
    _gone(path)


def cut(rng: np.random.Generator, path: Path, other: Path) -> None:
    content = path.read_bytes()
    _written(path, content[: rng.integers(len(content) + 1)])


def flipped(rng: np.random.Generator, path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes() or b"x")
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    _written(path, bytes(content))


def hostile(rng: np.random.Generator, path: Path, other: Path) -> None:
    _written(path, HOSTILE[rng.integers(len(HOSTILE))] + b"\n" * int(rng.integers(2)))


def with_a_line(rng: np.random.Generator, path: Path, other: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines.insert(rng.integers(len(lines) + 1), HOSTILE[rng.integers(len(HOSTILE))])
    _written(path, b"\n".join(lines))


def without_a_line(rng: np.random.Generator, path: Path, other: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    del lines[rng.integers(len(lines))]
    _written(path, b"\n".join(lines))


def with_a_line_twice(rng: np.random.Generator, path: Path, other: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines.insert(rng.integers(len(lines) + 1), lines[rng.integers(len(lines))])
    _written(path, b"\n".join(lines))


def with_another_value(rng: np.random.Generator, path: Path, other: Path) -> None:
    """Changes or removes one value of one JSON line, or of the whole file."""
    lines = path.read_bytes().split(b"\n") if path.suffix == ".jsonl" else [path.read_bytes()]
    place = rng.integers(len(lines))
    try:
        value = json.loads(lines[place])
    except ValueError:
        return hostile(rng, path, other)
    lines[place] = json.dumps(_changed(rng, value)).encode()
    return _written(path, b"\n".join(lines))


def _changed(rng: np.random.Generator, value: Any) -> Any:
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.15:
            del value[key]
        else:
            value[key] = _changed(rng, value[key])
        return value
    others = [None, "text", -1, 0, 10**30, 1.5, float("nan"), float("inf"), [], {}, True, ["a", 1]]
    return others[rng.integers(len(others))]


def foreign(rng: np.random.Generator, path: Path, other: Path) -> None:
    """Puts a copy of something else in its place: of another run, or of elsewhere in this one."""
    with tempfile.TemporaryDirectory() as apart:  # `other` may be above `path`
        aside = Path(apart) / "aside"
        (shutil.copytree if other.is_dir() else shutil.copy)(other, aside)
        _gone(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(aside, path)


def as_folder(rng: np.random.Generator, path: Path, other: Path) -> None:
    _gone(path)
    path.mkdir()
    if rng.random() < 0.5:
        (path / "inside").write_text("x")


def as_file(rng: np.random.Generator, path: Path, other: Path) -> None:
    _gone(path)
    path.write_bytes(HOSTILE[rng.integers(len(HOSTILE))])


def as_dangling_link(rng: np.random.Generator, path: Path, other: Path) -> None:
    _gone(path)
    path.symlink_to("nowhere")


def as_link_to_itself(rng: np.random.Generator, path: Path, other: Path) -> None:
    _gone(path)
    path.symlink_to(path.name)


def as_link_upward(rng: np.random.Generator, path: Path, other: Path) -> None:
    _gone(path)
    path.symlink_to("..")


def moved_and_linked(rng: np.random.Generator, path: Path, other: Path) -> None:
    """As people do whose disk is full: nothing is lost."""
    elsewhere = path.parent / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere.name)


def with_more_inside(rng: np.random.Generator, path: Path, other: Path) -> None:
    (path / ["notes.txt", ".DS_Store", "step-00000002", "final.orbax-checkpoint-tmp"][
        rng.integers(4)
    ]).write_bytes(HOSTILE[rng.integers(len(HOSTILE))])  # fmt: skip


LINKS = (as_dangling_link, as_link_to_itself, as_link_upward, moved_and_linked)
FILES = (
    removed, cut, flipped, hostile, with_a_line, without_a_line, with_a_line_twice,
    with_another_value, with_another_value, foreign, as_folder, *LINKS,
)  # fmt: skip
FOLDERS = (removed, foreign, as_file, with_more_inside, *LINKS)
