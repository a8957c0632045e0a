"""A finished run, which tests read and do not change."""

from pathlib import Path

import pytest

from tests import shared_runs
from tests.lottery.early_bird import tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """Masks of channels, the ticket and all controls."""
    return shared_runs.finished(tmp_path_factory, "early_bird", tiny.train)[0]
