"""A finished run, which tests read and do not change."""

from pathlib import Path

import pytest

from tests import shared_runs
from tests.lowrank import small


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """Two methods at one share, each with its control; the folder, and what was printed."""

    def make(folder: Path) -> str:
        return small.run(folder, small.SCRATCH, methods=small.BOTH)

    return shared_runs.finished(tmp_path_factory, "lowrank", make)
