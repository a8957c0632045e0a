"""Whatever is typed, and whatever is named as a config, ends in one line that says what to do."""

import os
import signal
import time

import pytest

from groundwork import config as config_lib
from groundwork import entry
from groundwork.config_files import MOST_BYTES
from groundwork.devices.interruption import PREEMPTED, Interrupted
from groundwork.errors import UserError
from groundwork.report import page

HEAD = "import ml_collections\nfrom ml_collections import config_dict\n"
PLAIN = f"""{HEAD}
def get_config():
    config = ml_collections.ConfigDict()
    config.levels = 3
    config.train = dict(steps=100)
    config.names = ("a",)
    return config
"""


def made(body: str) -> str:
    """A config's file whose `get_config` has this body, in which `config` has `levels`."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    start = "    config = ml_collections.ConfigDict(dict(levels=3))\n"
    return f"{HEAD}def get_config():\n{start}{lines}    return config\n"


def refused(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        config_lib.parse(argv, "usage")
    said = str(caught.value)
    assert said.isprintable()  # one line, and nothing that a terminal obeys
    assert len(said) < 900
    said.encode()
    return said


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PLAIN)
    return tmp_path


# what is named as a config

PROGRAMS = {
    "ends the program": ("import sys\n\nsys.exit(5)\n", "ends the program (line 3)"),
    "ends it in get_config": (made("raise SystemExit"), "ends the program (line 5)"),
    "an error that cannot be shown": (
        "class Bad(Exception):\n    def __str__(self): raise ValueError\nraise Bad\n",
        "fails: Bad, which cannot be shown (line 3)",
    ),
    "an error of 10 MB": ("raise ValueError('x' * 10**7)\n", "fails: ValueError: xxx"),
    "an error of many lines": ("raise ValueError('a\\nb\\x1b[0m')\n", "fails: ValueError: a b"),
    "endless recursion": ("def f(): return f()\nf()\n", "fails: RecursionError: maximum"),
    "deep brackets": ("(" * 9_000, "fails: "),
    "nothing": ("", "must have get_config() that returns a ConfigDict"),
    "get_config is no function": ("get_config = 3\n", "fails: TypeError: 'int' object"),
    "arguments": ("def get_config(a, b): return 1\n", "its get_config takes (a, b)"),
    "a dict": ("def get_config(): return {'levels': 3}\n", "that returns a ConfigDict"),
    "a function": ("def get_config(): return lambda: 3\n", "that returns a ConfigDict"),
    "the class": (f"{HEAD}def get_config(): return ml_collections.ConfigDict\n", "that returns"),
    "NUL characters": ("x = 1\0\n", "fails: source code string cannot contain null bytes"),
    "a key that is no text": (made("config.a = {3: 4}\nconfig.b = {'c': 1}"), "config.a"),
    "a section in itself": (made("config.own = config"), "the section own contains itself"),
    "a section in itself, deep": (
        made("config.a = dict(b=1)\nconfig.a.c = dict(d=config.a)"),
        "the section a.c.d contains itself",
    ),
    "a reference that fails": (
        made("config.twice = config.get_ref('levels') / 0"),
        "fails: ZeroDivisionError: division by zero (line 5)",
    ),
    "a placeholder": (
        made("config.train = dict(steps=config_dict.placeholder(int))"),
        "train.steps has no value: give --config.train.steps=int",
    ),
    "a required placeholder": (
        made("config.rate = config_dict.required_placeholder(float)"),
        "rate has no value: give --config.rate=float",
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_config_that_is_none_says_so_in_one_line(here, case):
    text, said = PROGRAMS[case]
    if case == "a key that is no text":
        text, said = made("config.a = ml_collections.ConfigDict({3: 4})"), "has the key a.3"
    (here / "bad.py").write_text(text)
    answer = refused("--config=bad.py")
    assert answer.startswith("config file bad.py") or "placeholder" in case
    assert said in answer


def test_a_ctrl_c_while_a_config_runs_stays_one(here):
    (here / "bad.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        config_lib.parse(["--config=bad.py"], "")


def test_a_job_that_is_told_to_stop_while_a_config_runs_is_to_start_again(here):
    (here / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    before = signal.signal(signal.SIGTERM, entry._nothing_to_save)
    try:
        with pytest.raises(Interrupted) as stopped:
            config_lib.parse(["--config=slow.py"], "")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == PREEMPTED


def test_placeholders_frozen_and_locked_configs_take_values(here):
    body = "config.steps = config_dict.placeholder(int)\nconfig.lock()"
    (here / "locked.py").write_text(made(body))
    config, _ = config_lib.parse(["--config=locked.py", "--config.steps=7"], "")
    assert (config.steps, config.levels) == (7, 3)
    body = "config.train = dict(steps=1)\nconfig = ml_collections.FrozenConfigDict(config)"
    (here / "frozen.py").write_text(made(body))
    config, _ = config_lib.parse(["--config=frozen.py", "--config.train.steps=7"], "")
    assert (config.train.steps, config.levels) == (7, 3)


def test_a_value_that_an_override_leaves_without_its_own_is_told(here):
    (here / "ratio.py").write_text(made("config.part = 6 / config.get_ref('levels')"))
    config, _ = config_lib.parse(["--config=ratio.py", "--config.levels=2"], "")
    assert config.part == 3
    said = refused("--config=ratio.py", "--config.levels=0")
    assert said == "part cannot be computed: ZeroDivisionError: division by zero"


def test_a_variant_is_refused_where_there_is_none_and_asked_for_where_one_is_needed(here):
    assert refused("--config=mine.py:smoke").endswith("has no variants: give it without :smoke")
    (here / "two.py").write_text(PLAIN.replace("get_config()", "get_config(kind)"))
    assert "needs a variant, as in FILE.py:VARIANT: its get_config takes (kind)" in refused(
        "--config=two.py"
    )
    assert config_lib.load("two.py:x").levels == 3


def file_of(kind, path):
    """Puts something that is no config where one is looked for."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(100 * 2**20)
    elif kind == "not UTF-8":
        path.write_bytes(b"x = '\xff'\n")
    elif kind == "UTF-16":
        path.write_text(PLAIN, encoding="utf-16")
    elif kind == "a loop":
        path.symlink_to(path.name)
    elif kind == "a link to nothing":
        path.symlink_to("nothing")


KINDS = {
    "folder": "config file odd.py is a folder: give a file",
    "pipe": "config file odd.py is no ordinary file, but a pipe or a device",
    "device": "config file odd.py is no ordinary file, but a pipe or a device",
    "huge": f"has 104,857,600 bytes, and may have {MOST_BYTES:,}: is it another file?",
    "not UTF-8": "config file odd.py fails: (unicode error) 'utf-8' codec can't decode byte 0xff",
    "UTF-16": "config file odd.py fails: ",
    "a loop": "config file odd.py cannot be read: Too many levels of symbolic links",
    "a link to nothing": "config file odd.py does not exist in ",
}


@pytest.mark.parametrize("also", [[], ["--help"]])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_of_a_config_is_told(here, kind, also):
    file_of(kind, here / "odd.py")
    before = time.monotonic()
    assert KINDS[kind] in refused("--config=odd.py", *also)
    assert time.monotonic() - before < 5


def test_a_file_without_permission_is_told(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may read everything
    assert "mine.py cannot be read: you lack the permission" in refused("--config=mine.py")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/proc/self/mem", "mine.py/x.py"])
def test_devices_and_files_of_other_kinds_are_told(here, name):
    assert f"config file {name}" in refused(f"--config={name}")


def test_a_file_in_another_encoding_that_it_names_is_read(here, capsys):
    text = f'# coding: latin-1\n"""Ein Müsli."""\n{PLAIN}'
    (here / "mine.py").write_text(text, encoding="latin-1")
    with pytest.raises(SystemExit):
        config_lib.parse(["--config=mine.py", "--help"], "")
    assert "Ein Müsli." in capsys.readouterr().out


# what is typed

LONG = "x" * 5000
TYPED = {
    ("--config",): "no config: give --config=FILE",
    ("--config=",): "--config is empty",
    ("--config", "--config=mine.py", "x"): "no config: give --config=FILE",
    ("--config=:",): "--config is empty",
    ("--config=:smoke",): "--config is empty",
    (f"--config={LONG}",): "cannot be read: File name too long",
    (f"--config={LONG}.py",): "cannot be read: File name too long",
    ("--config=a\nb.py",): r"config file a\nb.py does not exist in ",
    ("--config=a\0b",): r"the argument --config=a\x00b has NUL characters",
    ("--config=\udcff.py",): r"the argument --config=\udcff.py is no UTF-8 text",
    ("M", "--workdir"): "workdir",
    ("M", "--workdir="): "--workdir is empty: give the run's folder, as --workdir=DIR",
    ("M", "--workdir=\udcff"): r"the argument --workdir=\udcff is no UTF-8 text",
    ("M", "--config.train=5"): "--config.train=5",
    ("M", "--config.train.steps"): "--config.train.steps",
    ("M", "--config.train.steps="): "--config.train.steps=",
    ("M", "--config.train.steps.more=1"): "unknown config key 'config.train.steps.more'",
    ("M", "--config.=5"): "unknown config key 'config.'",
    ("M", "--config..=5"): "unknown config key 'config..'",
    ("M", "--config.levels=1_0_"): "--config.levels=1_0_",
    ("M", "--config.levels=" + "9" * 5000): "--config.levels=9",
    ("M", "--config.levels=" + "(" * 5000): "--config.levels=(((",
    ("M", "--"): "unexpected argument '--'",
    ("M", "--", "x"): "unexpected argument '--'",
    ("M", "-"): "unexpected argument '-'",
    ("M", ""): "unexpected argument ''",
    ("M", "="): "unexpected argument '='",
    ("M", "-=3"): "unexpected argument '-=3'",
    ("M", "--=3"): "unexpected argument '--=3'",
    ("M", "---"): "unexpected argument '---'",
    ("M", "--flagfile=mine.py"): "unknown flag 'flagfile'",
    ("M", "--undefok=x", "--x=1"): "unknown flag 'undefok'",
    ("M", "--help=3"): "unknown flag 'help'",
    ("M", "--helpfull"): "unknown flag 'helpfull'",
    ("M", "--nolevels"): "unknown flag 'nolevels'",
    ("M", LONG): "unexpected argument 'xxx",
    ("M", f"--{LONG}"): "unknown flag 'xxx",
}


@pytest.mark.parametrize(
    "argv", TYPED, ids=lambda argv: " ".join(argv)[:40].encode("ascii", "backslashreplace").decode()
)
def test_odd_words_end_in_one_line(here, argv):
    words = ["--config=mine.py" if word == "M" else word for word in argv]
    assert TYPED[argv] in refused(*words)


def test_help_may_be_asked_for_before_the_config(here, capsys):
    for argv in (["--help", "--config=mine.py"], ["--help", "--config", "mine.py"]):
        with pytest.raises(SystemExit) as caught:
            config_lib.parse(argv, "usage")
        assert caught.value.code == 0
        assert "--config.train.steps=100\n" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["", "-x", "--", "\udcff", "a\0b", "runs/nowhere"])
def test_a_report_of_odd_words_ends_in_one_line(here, word):
    from lottery import report

    with pytest.raises(UserError) as caught:
        page.draw_again(report.show, "usage", [word])
    assert str(caught.value).isprintable()
    if word == "runs/nowhere":
        assert str(caught.value).endswith(f"runs/nowhere does not exist in {here}")
