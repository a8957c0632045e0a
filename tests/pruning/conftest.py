"""A finished run, which tests read and do not change."""

from pathlib import Path

import pytest

from tests import shared_runs
from tests.pruning import tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """One ratio with compensation, and all controls; the folder, and what was printed."""

    def make(folder: Path) -> str:
        return tiny.run(folder, tiny.COMPENSATED, *tiny.BRANCHES)

    return shared_runs.finished(tmp_path_factory, "pruning", make)
