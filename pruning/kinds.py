"""The two kinds of runs of the command: whole units go, or single weights; `prune.method` says."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from groundwork.data.dataset import AnyDataset
from groundwork.errors import UserError, unknown
from groundwork.study import Prepared
from pruning import spec, work
from pruning.spec import PruningSpec
from pruning.weights import methods
from pruning.weights import spec as weights_spec
from pruning.weights import work as weights_work
from pruning.weights.spec import WeightsSpec

Spec = PruningSpec | WeightsSpec
SINGLE = "configs/pruning/weights.py"


def check(config: Mapping[str, Any]) -> Spec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    section = config.get("prune")
    method = section.get("method") if isinstance(section, Mapping) else None
    if method not in (*spec.METHODS, *methods.METHODS):
        raise unknown("prune.method", method, (*spec.METHODS, *methods.METHODS))
    single, keys = method in methods.METHODS, set(section or ())
    if single and "ratio" in keys:
        raise UserError(f"prune.method={method} is one of single weights: start from {SINGLE}")
    if not single and "density" in keys:
        raise UserError(
            f"prune.method={method} removes whole units: start from configs/pruning/base.py"
        )
    return weights_spec.from_config(config) if single else spec.from_config(config)


def units(of: Spec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    return weights_spec.unit_names(of) if isinstance(of, WeightsSpec) else spec.unit_names(of)


def steps(of: Spec, unit: str) -> int | None:
    """Returns the training steps of a unit, where they are known; see `Study.steps`."""
    if isinstance(of, WeightsSpec):
        return weights_spec.steps(of, unit)
    return spec.steps(of, unit)


def prepare(of: Spec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked.

    Raises:
      UserError: the network cannot take the data, or nothing of it can be removed.
    """
    if isinstance(of, WeightsSpec):
        return weights_work.prepare(of, config, dataset)
    return work.prepare(of, config, dataset)


def without_effect(of: Spec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    if isinstance(of, WeightsSpec):
        return weights_spec.without_effect(of, config, given)
    return spec.without_effect(of, config, given)


def following(of: Spec, folder: str) -> str:
    """Returns what the user of a finished run may do next."""
    run = shlex.quote(folder)
    if isinstance(of, WeightsSpec):
        return f"python -m groundwork.compare {run} RUN … shows several ways on one page"
    return f"python -m deploy.main --source={run} writes files of engines, and times them"
