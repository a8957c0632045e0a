"""A finished run, which tests read and do not change."""

from pathlib import Path

import pytest

from tests.lowrank import small


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """Two methods at one share, each with its control; the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("lowrank") / "run"
    return folder, small.run(folder, small.SCRATCH, methods=small.BOTH)
