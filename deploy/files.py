"""The files of a network for all engines of a run, and what is said of them."""

import dataclasses
import gzip
import hashlib
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from deploy import exports, grids
from deploy.graphs import trace
from deploy.graphs.graph import Graph
from deploy.sources.network import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """What one engine takes for one kind and batch.

    Attributes:
      engine: its name.
      kind: `float` or `int8`.
      batch: examples of a call.
      paths: of the files, relative to the run's folder, first the one that is loaded; folders are
        named by themselves. None if it could not be written.
      bytes: of all of them.
      gzip_bytes: of all of them, each compressed by gzip.
      sha256: of all of them, one after the other, in hexadecimal digits.
      seconds: that writing took.
      failure: why it could not be written; empty if it was.
      remarks: what the file does not hold as the network has it.
    """

    engine: str
    kind: str
    batch: int
    paths: tuple[str, ...] = ()
    bytes: int = 0
    gzip_bytes: int = 0
    sha256: str = ""
    seconds: float = 0.0
    failure: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the engine and the kind, such as `litert-int8`."""
        return f"{self.engine}-{self.kind}"


def graph(network: Network, example: Any, batch: int) -> Graph:
    """Returns the graph of a network for so many examples.

    Raises:
      ValueError: see `deploy.graph`.
    """
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct((batch, *s.shape[1:]), s.dtype), example)
    return trace.graph(network.model, network.variables, shapes, network.stored)


def is_rounded(network: Network, example: Any) -> bool:
    """Returns whether a network computes in bfloat16 somewhere, which no file does."""
    apply = trace.evaluation(network.model)
    return "bf16[" in str(jax.make_jaxpr(apply)(network.variables, example))


def write(
    graphs: dict[str, Graph], engines: Sequence[str], batch: int, folder: Path, root: Path
) -> Iterator[File]:
    """Writes the files of one network and batch; yields one `File` after the other.

    Args:
      graphs: kind → the graph.
      engines: their names.
      batch: of the graphs.
      folder: of the files.
      root: of the run.

    Raises:
      OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for engine in engines:
        for kind, made in graphs.items():
            yield _written(made, engine, kind, batch, folder, root)


def failed(kind: str, why: str, engines: Sequence[str], batch: int) -> list[File]:
    """Returns what stands for the files of a kind that could not be made for any engine."""
    return [File(engine=name, kind=kind, batch=batch, failure=why) for name in engines]


def parts(paths: Sequence[Path]) -> list[Path]:
    """Returns the files, and those inside of what is a folder, in order."""
    found = []
    for path in paths:
        found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return found


def wrong(file: File, root: Path) -> str:
    """Returns what is not as it was written; empty if all of it is."""
    paths = [root / path for path in file.paths]
    missing = [path for path in paths if not path.exists()]
    if missing:
        return f"{missing[0]} is gone"
    data = [path.read_bytes() for path in parts(paths)]
    if sum(map(len, data)) != file.bytes:
        return f"{paths[0]}: {sum(map(len, data)):,} bytes, not {file.bytes:,}"
    return "" if _digest(data) == file.sha256 else f"{paths[0]} has changed"


def _digest(data: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in data:
        digest.update(part)
    return digest.hexdigest()


def _written(made: Graph, engine: str, kind: str, batch: int, folder: Path, root: Path) -> File:
    begun = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", grids.CodesLost)
        try:
            paths = exports.write(made, engine, folder / f"{engine}-{kind}-{batch}")
        except ValueError as error:
            return File(engine=engine, kind=kind, batch=batch, failure=str(error))
    lost = [str(one.message) for one in caught if issubclass(one.category, grids.CodesLost)]
    for one in caught:
        if not issubclass(one.category, grids.CodesLost):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    data = [path.read_bytes() for path in parts(paths)]
    return File(
        engine=engine,
        kind=kind,
        batch=batch,
        paths=tuple(path.relative_to(root).as_posix() for path in paths),
        bytes=sum(map(len, data)),
        gzip_bytes=sum(len(gzip.compress(part, mtime=0)) for part in data),
        sha256=_digest(data),
        seconds=time.perf_counter() - begun,
        remarks=tuple(lost),
    )
