"""The sources of data in memory that a config can name, in one table each. Read `read` first."""

from collections.abc import Callable, Mapping
from typing import Any

from groundwork import named, paths
from groundwork.data import canvases, images, own, photographs, readers, text
from groundwork.data.own import Given

SOURCES: dict[str, Callable[[str, str, Mapping[str, Any], int], Given]] = {
    "digit_canvases": canvases.read_canvases,
    "folder": images.read_folder,
    "huggingface": images.read_huggingface,
    "npz": own.read_npz,
    "photographs": photographs.read,
    "text": text.read_text,
}  # besides `readers.SOURCES`


def names() -> list[str]:
    """Returns the names of all sources."""
    return [*readers.SOURCES, *SOURCES]


def read(
    source: str,
    name: str,
    folder: str,
    kwargs: Mapping[str, Any],
    image_size: int,
    test_split: str = "test",
) -> Given:
    """Returns the examples of a source, as they were read.

    Args:
      source: one of `names`, or a user's own function.
      name: of the data set.
      folder: of its files; of a text, its path.
      kwargs: arguments.
      image_size: see `DataSpec`.
      test_split: of a tfds set, likewise.

    Raises:
      UserError: the examples cannot be read.
    """
    if named.is_own(source):
        return own.read_function(source, kwargs)
    folder = str(paths.given(folder)) if folder else ""
    if source in SOURCES:
        return SOURCES[source](name, folder, kwargs, image_size)
    if source == "tfds":
        read = readers.read_tfds(name, folder, test_split)
        return Given(read[0], read[1], classes=read[2])
    train, test, classes = readers.SOURCES[source](name, folder)
    return Given(train, test, classes=classes)
