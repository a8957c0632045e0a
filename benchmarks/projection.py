"""How long a step's bytes are under way between chips, computed from published bandwidths.

No chip was measured, computing is not in it, and nothing overlaps. Sources:

* TPU v5e, a link 5e10 bytes/s one way, 1e11 both ways, 2 axes that wrap at 16 chips; TPU v5p, 2e11
  both ways, 3 axes that wrap at multiples of 4: https://jax-ml.github.io/scaling-book/tpus, in
  accord with 400 and 1,200 GB/s per chip at https://docs.cloud.google.com/tpu/docs/v5e and …/v5p,
  which also say which slices there are.
* Data-centre network between pods of 256 TPU v5e: 6.4 Tbps per pod,
  https://docs.cloud.google.com/tpu/docs/v5e. No published figure of its latency is known, and none
  is added.
* About 1 µs per hop, half the length of each axis per phase, summed over axes, bandwidth times
  axes; an all-reduce has two phases: https://jax-ml.github.io/scaling-book/sharding.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

HOP_SECONDS = 1e-6
FORMULA = (
    "2 (D − 1) / D × bytes / bandwidth + all-reduces × 2 phases × hops × 1 µs; over pods P in "
    "addition 2 (P − 1) / P × bytes / a pod's bandwidth"
)


class Network(NamedTuple):
    """Chips, and what connects them, by the sources above."""

    name: str
    chips: int
    bandwidth: float  # bytes/s into and out of a chip in a ring over all its axes
    hops: int  # the longest way in one phase
    pods: int = 1
    pod_bandwidth: float = 0.0  # bytes/s of a pod to the others


NETWORKS = (
    # Axes of 2 and 4 do not wrap: one link, one way, from end to end.
    Network("TPU v5e, 2×4", 8, 5e10, (2 - 1) + (4 - 1)),
    Network("TPU v5e, 16×16", 256, 2 * 1e11, (16 + 16) // 2),
    Network("TPU v5p, 8×8×16", 1024, 3 * 2e11, (8 + 8 + 16) // 2),
    Network("TPU v5e, 4 pods 16×16", 1024, 2 * 1e11, (16 + 16) // 2, 4, 6.4e12 / 8),
)


def seconds(size: int, all_reduces: int, network: Network) -> tuple[float, float]:
    """Returns how long `size` bytes are under way: seconds by bandwidth, and by hops.

    A ring's all-reduce sends 2 (D − 1) / D of its bytes; each all-reduce waits for the hops of its
    two phases. Between pods, each pod as a whole is one member of a ring.
    """
    inside = network.chips // network.pods
    sent = 2 * (inside - 1) / inside * size / network.bandwidth
    if network.pods > 1:
        sent += 2 * (network.pods - 1) / network.pods * size / network.pod_bandwidth
    return sent, all_reduces * 2 * network.hops * HOP_SECONDS


def project(models: Iterable[str], measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row per model and network.

    The bytes are those of one replicate, measured on most devices.
    """
    rows = []
    for model in models:
        alone = [row for row in measured if row["replicates"] == 1 and row.get("bytes_per_step")]
        of_model = [row for row in alone if row["model"] == model]
        for network in NETWORKS if of_model else ():
            last = of_model[-1]
            size, all_reduces = last["bytes_per_step"]["all-reduce"], last["collectives"]
            sent, waited = seconds(size, all_reduces, network)
            row = {"model": model, "network": network.name, "chips": network.chips, "bytes": size}
            row |= {"all_reduces": all_reduces, "sent_seconds": sent, "hop_seconds": waited}
            rows.append(row)
    return rows
