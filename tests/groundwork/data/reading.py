"""What a reader says of a folder that it refuses."""

import pytest

from groundwork.data import readers
from groundwork.errors import UserError


def refused(folder, name="mnist", read=readers.read_idx):
    """The one line that reading the folder is refused with."""
    with pytest.raises(UserError) as caught:
        read(name, str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)
