"""A command that refuses: its one line on stderr, and nothing that it has written."""

DIGITS = "--config=configs/lottery/digits.py"


class TrainingBeganError(Exception):
    """Nothing was found wrong."""


def check(code, out, err):
    """Exit code 2, and one line that says why."""
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert len(err) < 600
    assert "Traceback" not in err


def contents(folder):
    """Every path below a folder, and what the files hold."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
