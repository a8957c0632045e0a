"""Points of a sweep: values with commas, names that are safe and their own."""

import os
from pathlib import Path

import pytest

from groundwork.errors import UserError
from launch import points

VALUES = {
    "0.1,0.2": ["0.1", "0.2"],
    "0.2,{'*': 0.2, 'output': 0.1}": ["0.2", "{'*': 0.2, 'output': 0.1}"],
    "(1,2),all,()": ["(1,2)", "all", "()"],
    "('*kernel', '*bias'),('*',)": ["('*kernel', '*bias')", "('*',)"],
    "'a,b',c": ["a,b", "c"],
    '"it\'s",x': ["it's", "x"],
    "{'a)': (1,)}": ["{'a)': (1,)}"],
    "": [""],
}


@pytest.mark.parametrize(("text", "expected"), VALUES.items())
def test_commas_inside_brackets_or_quotes_belong_to_a_value(text, expected):
    assert points.values(text) == expected


@pytest.mark.parametrize("text", ["(1,2", "'a", "{(1}"])
def test_what_is_left_open_is_refused(text):
    with pytest.raises(UserError, match="lacks a closing"):
        points.values(text)


def test_a_grid_is_every_combination_named_in_the_order_given():
    made = points.make(["prune.rate=0.1,0.2", "seed=0,1"], None)
    names = [f"prune.rate={rate},seed={seed}" for rate in (0.1, 0.2) for seed in (0, 1)]
    assert [point.name for point in made] == names
    assert made[1].arguments() == ["--config.prune.rate=0.1", "--config.seed=1"]


def test_more_values_leave_the_names_of_the_old_points_alone():
    few, more = (points.make([f"seed={seeds}", "levels=2"], None) for seeds in ("0", "0,1"))
    assert few[0] == more[0]


def test_names_are_safe_distinct_and_stable():
    values = [
        "{'*': 0.2, 'output': 0.1}",
        "('*', 0.2, 'output': 0.1)",
        "a/b",
        "a b",
        "..",
        "é",
        "()",
    ]
    names = [points.name([("k", value)]) for value in values]
    assert len(set(names)) == len(values)
    for made in names:
        assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789.=_~+-"), made
        assert not made.startswith(".")
    assert names[0] == "k=0.2_output_0.1~f1dbb9"
    long = [points.name([("k", "x" * 300 + end)]) for end in "ab"]
    assert len(set(long)) == 2
    assert max(map(len, long)) < 200


def test_a_file_has_a_point_a_line(tmp_path):
    file = tmp_path / "points"
    file.write_text("""seed=0  prune.rate=0.1   # the first
\n# only a remark
--config.seed=1 "prune.rate={'*': 0.2, 'output': 0.1}"\n""")
    made = points.make([], file)
    assert [point.overrides for point in made] == [
        {"seed": "0", "prune.rate": "0.1"},
        {"seed": "1", "prune.rate": "{'*': 0.2, 'output': 0.1}"},
    ]
    assert len(points.make(["levels=1,2"], file)) == 4


REFUSED = {
    "nothing": ([], None, "nothing to vary"),
    "no value": (["seed"], None, "KEY=VALUE"),
    "no key": (["=1"], None, "KEY=VALUE"),
    "a point twice": (["seed=0,0"], None, "seed=0 is there twice"),
    "a key twice": (["seed=0", "seed=1"], None, "seed is set twice"),
    "an open quote": ([], "seed='0\n", "line 1"),
    "blanks": ([], "prune.rate={'*': 0.2}\n", "line 1"),
    "an empty file": ([], "# nothing\n", "has no point"),
}


FILES = {
    "not UTF-8": (b"seed=\xff", "file of points points is no UTF-8 text, at byte 5"),
    "NUL": (b"seed=1\0", "file of points points is no text: it has NUL characters"),
    "empty": (b"", "points has no point"),
    "huge": (b"\n" * (points.MOST_BYTES + 1), "has 16,777,217 bytes, and may have 16,777,216"),
    "many": (b"seed=1\n" * 10_001, "there would be 10,001 points, and may be 10,000"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_points_is_told_in_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, said = FILES[case]
    Path("points").write_bytes(content)
    with pytest.raises(UserError, match=said):
        points.make([], Path("points"))


def test_what_is_no_file_of_points_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for path, said in [
        ("nowhere", f"file of points nowhere does not exist in {tmp_path}"),
        (".", "file of points . is a folder: give a file"),
        ("pipe", "file of points pipe is no ordinary file"),
        ("/dev/zero", "file of points /dev/zero is no ordinary file"),
    ]:
        with pytest.raises(UserError, match=said):
            points.make([], Path(path))


def test_a_grid_without_end_is_refused_before_it_is_made():
    with pytest.raises(UserError, match="there would be 1,000,000,000,000 points"):
        points.make([f"k{i}=" + ",".join(map(str, range(1000))) for i in range(4)], None)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case, tmp_path):
    grid, text, said = REFUSED[case]
    file = tmp_path / "points" if text else None
    if file:
        file.write_text(text)
    with pytest.raises(UserError, match=said):
        points.make(grid, file)
