"""The config's sections as dataclasses that check themselves. ConfigDicts stop here."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from compress.stages.stage_specs import (
    DistillSpec,
    FactorizeSpec,
    PruneSpec,
    QuantizeSpec,
    ShareSpec,
)
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, unknown
from groundwork.sections import (
    SHARED,
    CheckpointSpec,
    LogSpec,
    TrainSpec,
    check_counts,
    check_keys,
    counts,
    sections,
)
from groundwork.train.optim import OptimizerSpec
from lowrank.spec import SourceSpec

ORIGINAL = "original"
IN_ORDER = ("share", "factorize", "prune", "quantize")
WHY = {
    "share": "layers are tied before they are changed one by one",
    "factorize": "factors of pruned kernels are dense",
    "prune": "quantised weights are not pruned",
    "quantize": "nothing changes quantised weights",
}
STAGES = ("distill", *IN_ORDER)
NO_ZERO = "quantize.method='binary' has no zero for pruned weights: try ternary"
SECTIONS: dict[str, Any] = {
    **SHARED,
    "source": SourceSpec,
    "share": ShareSpec,
    "factorize": FactorizeSpec,
    "prune": PruneSpec,
    "distill": DistillSpec,
    "quantize": QuantizeSpec,
    "fine_tune": TrainSpec,
    "fine_tune_optimizer": OptimizerSpec,
}


@dataclasses.dataclass(frozen=True)
class Node:
    """A network of a run: what one more stage made of its parent."""

    name: str  # "prune-12+quantize-4"
    parent: str  # "prune-12"; of the original ""
    stage: str
    setting: float  # level, share or bits; 0 where the stage has none
    leaf: bool  # the pipeline ends here

    @property
    def unit(self) -> str:
        """Its unit of the run."""
        return unit_name(self.name)


@dataclasses.dataclass(frozen=True)
class CompressSpec:
    """A whole experiment. `stages`: names of `STAGES`, in the order in which they are done."""

    seed: int
    replicates: int
    eval_every: int
    stages: tuple[str, ...]
    source: SourceSpec
    train: TrainSpec
    optimizer: OptimizerSpec
    share: ShareSpec
    factorize: FactorizeSpec
    prune: PruneSpec
    distill: DistillSpec
    quantize: QuantizeSpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec

    def __post_init__(self) -> None:
        check_counts(self)
        _check_order(self.stages)
        if "share" in self.stages and not self.share.groups:
            raise UserError("share.groups is empty: name layers, as (('conv1', 'conv2'),)")
        if "prune" in self.stages:
            self.check_signs(self.stages[self.stages.index("prune") :])
            if self.prune.rewind == "start":
                self._check_rewind()
        if "distill" in self.stages and self.distill.init == "shrink":
            for stage in self.stages[: self.stages.index("distill")]:
                if stage in ("share", "factorize"):
                    raise UserError(f"distill.init='shrink' takes no units of layers after {stage}")
        for stage in self.distill.during:
            if stage not in IN_ORDER:
                raise unknown("stage in distill.during", stage, IN_ORDER)
            if stage not in self.stages:
                raise UserError(f"distill.during: {stage} is none of stages={self.stages}: add it")

    def check_signs(self, stages: tuple[str, ...]) -> None:
        """Refuse signs for pruned weights that come through these stages as they are.

        Raises:
          UserError: there is no zero for them.
        """
        dense = "factorize" in stages or ("distill" in stages and self.distill.init != "keep")
        if "quantize" in stages and self.quantize.method == "binary" and not dense:
            raise UserError(NO_ZERO)

    def _check_rewind(self) -> None:
        """There must be initial values to go back to."""
        before = self.stages[: self.stages.index("prune")]
        reason = ""
        if "distill" in before and self.distill.init != "fresh":
            reason = "after distill with another init than 'fresh'"
        elif "factorize" in before:
            reason = "after factorize"
        elif self.source.path and "distill" not in before:
            reason = "with source.path"
        if reason:
            raise UserError(f"prune.rewind='start' has no start {reason}: set prune.rewind='none'")

    def settings(self, stage: str) -> tuple[float, ...]:
        """What a stage is done with, one network each; (0,) if nothing is to be chosen."""
        if stage == "factorize":
            return self.factorize.settings
        if stage == "quantize":
            return self.quantize.settings
        return (0,)


def from_config(config: Mapping[str, Any]) -> CompressSpec:
    """Check a resolved config (nested dicts) and turn it into a spec.

    Raises:
      UserError: names the key that is wrong and what would be right.
    """
    own = [field.name for field in dataclasses.fields(CompressSpec)]
    check_keys(config, [*own, "data", "model"])
    if not isinstance(config["stages"], tuple | list):
        raise UserError(f"stages={config['stages']!r} must be names, as ('prune', 'quantize')")
    return CompressSpec(
        **counts(config), stages=tuple(config["stages"]), **sections(config, SECTIONS)
    )


def nodes(spec: CompressSpec) -> list[Node]:
    """All networks of a run, each after its parent, in the order in which they are made."""
    found = [Node(ORIGINAL, "", ORIGINAL, 0, not spec.stages)]
    heads = [ORIGINAL]
    for stage in spec.stages:
        last, following = stage == spec.stages[-1], []
        for head in heads:
            prefix = "" if head == ORIGINAL else f"{head}+"
            if stage == "prune":
                parent = head
                for level in range(1, max(spec.prune.levels) + 1):
                    name = f"{prefix}prune-{level:02d}"
                    found.append(Node(name, parent, stage, level, last))
                    following += [name] * (level in spec.prune.levels)
                    parent = name
                continue
            for setting in spec.settings(stage):
                name = f"{prefix}{stage}" + (f"-{setting:g}" if setting else "")
                found.append(Node(name, head, stage, setting, last))
                following.append(name)
        heads = following
    return found


def unit_names(spec: CompressSpec) -> list[str]:
    """All units of a run."""
    return [node.unit for node in nodes(spec)]


def unit_name(network: str) -> str:
    """`networks/prune-12`."""
    return f"networks/{network}"


def _check_order(stages: tuple[str, ...]) -> None:
    for stage in stages:
        if stage not in STAGES:
            raise unknown("stage", stage, STAGES)
    if len(set(stages)) < len(stages):
        raise UserError(f"stages={stages} must name each stage once")
    given = [stage for stage in stages if stage in IN_ORDER]
    for early, late in itertools.pairwise(given):
        if IN_ORDER.index(early) > IN_ORDER.index(late):
            raise UserError(f"stages: {late} must come before {early}: {WHY[late]}")
    if "quantize" in stages and stages[-1] != "quantize":
        raise UserError(f"stages: quantize must be the last: {WHY['quantize']}")
