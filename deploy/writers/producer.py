"""Who made a file: what writers put into its metadata."""

import importlib.metadata
import tomllib
from pathlib import Path

NAME = "compression-and-dynamic-networks"


def version() -> str:
    """Returns the version of this project, of a clone as its pyproject.toml says."""
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
        return tomllib.loads(project.read_text())["project"]["version"]
