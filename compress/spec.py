"""The config's sections as dataclasses that check themselves, and the networks of a run."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from compress.made import ORIGINAL, CompressSpec, Node
from compress.stages import peers, students
from compress.stages.all_stages import STAGES
from groundwork import idle
from groundwork.errors import UserError, unknown
from groundwork.sections import (
    LOSS,
    SHARED,
    FineTuneOptimizerSpec,
    FineTuneSpec,
    SourceSpec,
    check_counts,
    check_keys,
    sections,
    values,
)
from groundwork.train import loss_spec


class TuneSpec(FineTuneSpec):
    """`fine_tune`: with 0 steps, networks stay as they were changed."""

    LEAST_STEPS = 0


SECTIONS: dict[str, Any] = {
    **SHARED,
    "source": SourceSpec,
    "fine_tune": TuneSpec,
    "fine_tune_optimizer": FineTuneOptimizerSpec,
}


def from_config(config: Mapping[str, Any]) -> CompressSpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    check_keys(
        config,
        ["seed", "replicates", "eval_every", "data", "model", "stages", *SECTIONS, *STAGES],
        optional=LOSS,
    )
    spec = CompressSpec(
        **values(config, CompressSpec, "stages"),
        sections=sections(config, {name: stage.section for name, stage in STAGES.items()}),
        **sections(config, SECTIONS),
        loss=loss_spec.from_config(config),
    )
    check_counts(spec)
    _check_order(spec.stages)
    for stage in spec.stages:
        STAGES[stage].place(spec)
    for stage in spec.sections["distill"].during:
        if stage not in STAGES or stage == "distill":
            known = [name for name in STAGES if name != "distill"]
            raise unknown("stage in distill.during", stage, known)
        if stage not in spec.stages:
            raise UserError(f"distill.during: {stage} is none of stages={spec.stages}: add it")
    return spec


def without_effect(
    spec: CompressSpec, config: Mapping[str, Any], given: Sequence[str]
) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    optimizers = {"train": spec.optimizer, "fine_tune": spec.fine_tune_optimizer}
    used = {n for stage in spec.stages for n in STAGES[stage].trains(spec.sections[stage])}
    used |= set() if spec.source.path else {"train"}
    used -= set() if spec.fine_tune.steps else {"fine_tune"}
    keys = {**idle.of_optimizers(list(optimizers.values())), **idle.of_data(config["data"])}
    for unused in optimizers.keys() - used:
        reason = f"no network of this run is trained by the section {unused}"
        keys |= {f"{unused}.steps": reason, optimizers[unused].SECTION: reason}
    keys |= idle.of_source(spec.source.path)
    for name, stage in STAGES.items():
        keys |= {f"{name}.{key}": reason for key, reason in stage.idle(spec.sections[name]).items()}
        if name not in spec.stages:
            keys = {key: r for key, r in keys.items() if not key.startswith(f"{name}.")}
            keys[name] = f"stages={spec.stages} has no {name}"
    if spec.sections["distill"].during:
        keys.pop("distill", None)
    trained = {name: optimizers[name] for name in sorted(used)}
    return idle.warnings(idle.beyond_steps(spec, trained), keys, given)


def nodes(spec: CompressSpec) -> list[Node]:
    """Returns all networks of a run in their order, each after its parent."""
    networks = [Node(ORIGINAL, "", ORIGINAL, 0, not spec.stages)]
    heads = [ORIGINAL]
    for stage in spec.stages:
        last, following = stage == spec.stages[-1], []
        for head in heads:
            prefix = "" if head == ORIGINAL else f"{head}+"
            for step in STAGES[stage].steps(spec.sections[stage]):
                name = prefix + step.name
                parent = prefix + step.after if step.after else head
                networks.append(Node(name, parent, stage, step.setting, last))
                following += [name] * step.continues
        heads = following
    return networks


def unit_names(spec: CompressSpec) -> list[str]:
    """Returns the names of all units of a run."""
    return [node.unit for node in nodes(spec)]


def steps(spec: CompressSpec, unit: str) -> int | None:
    """Returns the training steps of a unit. Students that teach each other are trained at once."""
    (node,) = [node for node in nodes(spec) if node.unit == unit]
    if node.stage == ORIGINAL:
        return 0 if spec.source.path else spec.train.steps
    section = spec.sections[node.stage]
    step = node.name.rpartition("+")[2]
    if step == students.HINT:
        return section.hint_steps
    if step.startswith(peers.PEER):
        return 0
    return sum(getattr(spec, name).steps for name in STAGES[node.stage].trains(section))


def _check_order(stages: tuple[str, ...]) -> None:
    for stage in stages:
        if stage not in STAGES:
            raise unknown("stage", stage, STAGES)
    if len(set(stages)) < len(stages):
        raise UserError(f"stages={stages} must name each stage once")
    in_order = [name for name, stage in STAGES.items() if stage.first]
    for early, late in itertools.pairwise([stage for stage in stages if stage in in_order]):
        if in_order.index(early) > in_order.index(late):
            raise UserError(f"stages: {late} must come before {early}: {STAGES[late].first}")
    final = in_order[-1]
    if final in stages and stages[-1] != final:
        raise UserError(f"stages: {final} must be the last: {STAGES[final].first}")


def following(spec: CompressSpec, folder: str) -> str:
    """Returns what the user of a finished run may do next."""
    del spec
    file = f"compress.load({folder + '/files/NAME/0.cna'!r})"
    return f"{file} gives a network by its name; of your own networks, name the module, too"
