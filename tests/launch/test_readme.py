"""The commands of docs/machines.md are ones that the launchers take."""

import re
import shlex
import subprocess

import pytest

from launch import jobset, slurm, sweep
from tests.conftest import ROOT

MACHINES = (ROOT / "docs/machines.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", MACHINES, flags=re.S)
COMMANDS = [shlex.split(block.replace("\\\n", " ")) for block in BLOCKS]
MAINS = {"launch.slurm": slurm.main, "launch.jobset": jobset.main, "launch.sweep": sweep.main}


def _dry(words):
    place = words.index("--") if "--" in words else len(words)
    return [*words[:place], "--dry-run", *words[place:]]


@pytest.mark.parametrize("module", MAINS)
def test_a_module_takes_its_command(module, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    given = [words for words in COMMANDS if words[:3] == ["python", "-m", module]]
    assert given
    for words in given:
        MAINS[module](_dry(words[3:]))
        assert "lottery.main" in capsys.readouterr().out


def test_the_tpu_script_takes_its_command():
    (words,) = [words for words in COMMANDS if words[0] == "launch/tpu_pod.sh"]
    done = subprocess.run(_dry(words), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lottery.main" in done.stdout


def test_every_launcher_that_is_named_exists():
    for text in (MACHINES, (ROOT / "launch/README.md").read_text()):
        for path in re.findall(r"launch/[a-z_/]+\.(?:sh|yaml)", text):
            assert (ROOT / path).is_file(), path
