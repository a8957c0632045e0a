"""TPU slices on GKE: what a type such as v6e-64 means for the pods that use one."""

import math
from typing import NamedTuple

from groundwork.errors import unknown

ACCELERATOR = "cloud.google.com/gke-tpu-accelerator"
TOPOLOGY = "cloud.google.com/gke-tpu-topology"
POOL = "cloud.google.com/gke-nodepool"  # a slice is a pool of nodes
CHIPS = "google.com/tpu"
CHIPS_PER_HOST = 4  # of every type with more than one chip: ct4p, ct5p, ct5lp and ct6e with 4t

FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
    *("4x8x8", "8x8x8", "8x8x12", "8x8x16", "8x16x16"),
)
LARGER = ("12x16x16", "16x16x16", "16x16x24")


class Generation(NamedTuple):
    """The slices of one kind of chip; their names count cores: two a chip in v4 and v5p."""

    accelerator: str
    cores: int
    topologies: tuple[str, ...]


class Slice(NamedTuple):
    """A slice: the labels of its nodes, and its size."""

    accelerator: str
    topology: str
    hosts: int
    chips: int  # of a host

    def labels(self) -> dict[str, str]:
        """Returns the labels that a node of such a slice has."""
        return {ACCELERATOR: self.accelerator, TOPOLOGY: self.topology}


GENERATIONS = {
    "v4": Generation("tpu-v4-podslice", 2, CUBES),
    "v5e": Generation("tpu-v5-lite-podslice", 1, FLAT),
    "v5p": Generation("tpu-v5p-slice", 2, CUBES + LARGER),
    "v6e": Generation("tpu-v6e-slice", 1, FLAT),
}


def of_type(name: str) -> Slice:
    """Returns the slice of a type, such as v6e-64; v5litepod-16 is another name of v5e-16.

    Raises:
      UserError: there is no such type; the error lists the sizes that the generation has.
    """
    generation, _, size = name.replace("v5litepod-", "v5e-").partition("-")
    if generation not in GENERATIONS:
        kinds = [f"{known}-N" for known in GENERATIONS]
        raise unknown("--type", name, kinds)
    accelerator, cores, topologies = GENERATIONS[generation]
    by_size = {str(cores * _chips(topology)): topology for topology in topologies}
    if size not in by_size:
        raise unknown("--type", name, [f"{generation}-{known}" for known in by_size])
    topology = by_size[size]
    chips = min(_chips(topology), CHIPS_PER_HOST)
    return Slice(accelerator, topology, _chips(topology) // chips, chips)


def _chips(topology: str) -> int:
    return math.prod(map(int, topology.split("x")))
