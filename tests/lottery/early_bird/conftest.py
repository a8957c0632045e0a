"""A finished run, which tests read and do not change."""

from pathlib import Path

import pytest

from tests.lottery.early_bird import tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """Masks of channels, the ticket and all controls."""
    folder = tmp_path_factory.mktemp("early_bird") / "run"
    tiny.train(folder)
    return folder
