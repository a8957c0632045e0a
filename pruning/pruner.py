"""Prunes all replicates by one more level: scores weights, then keeps the best of each group."""

# R replicates

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from groundwork import keys
from groundwork.devices import mesh as mesh_lib
from groundwork.train import replicates
from groundwork.trees import Params, Variables
from pruning import rounds
from pruning.criteria import OF_TRAINING, Criterion, Evidence
from pruning.masks import Mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What criteria see of a network, the same for all replicates; see `networks.evidence`.

    Attributes:
      loss: variables, examples → the mean loss, of one replicate.
      examples: the examples that are looked at.
      apply: variables, examples → outputs.
      output_loss: outputs, examples → the mean loss.
      batch_size: see `Evidence`.
    """

    loss: Callable[[Variables, Any], jax.Array] | None = None
    examples: Any = None
    apply: Callable[[Variables, Any], Any] | None = None
    output_loss: Callable[[Any, Any], jax.Array] | None = None
    batch_size: int | None = None


def make_pruner(
    mesh: Mesh,
    criterion: Criterion,
    paths: Mapping[str, tuple[str, ...]],
    slices: Mapping[str, int] | None = None,
    **seen: Any,
) -> Callable[..., Mask]:
    """Returns a function that prunes to given counts, compiled once for all levels.

    Args:
      mesh: the devices.
      criterion: scores the weights, in one round or several; see `rounds.prune`.
      paths: group → the paths that are ranked together.
      slices: group → how many slices of a stack it has; see `select.prune_to`.
      **seen: what the criterion looks at, the fields of `Seen`.

    Returns:
      (roots [R], masks, variables, counts of each group [R] or of each slice of it, level,
      more={}) → masks. `more` has the fields of `Evidence` that differ between replicates,
      `initial` and `movement`, with leaves [R, …]. It raises a ValueError if scores are no numbers,
      or if the evidence lacks something.
    """
    of_network = Seen(**seen)

    def prune(
        root: jax.Array,
        mask: Mask,
        variables: Variables,
        counts: Mapping[str, Any],
        more: Mapping[str, Any],
        level: Any,
    ) -> tuple[Mask, jax.Array]:
        evidence = evidence_of(of_network, root, mask, variables, more, level)
        return rounds.prune(criterion, evidence, counts, paths, slices)

    compiled = replicates.each_replicate(mesh, prune, shared=1, once=True)

    def pruned(
        roots: jax.Array,
        mask: Mask,
        variables: Variables,
        counts: Mapping[str, Any],
        level: Any,
        more: Mapping[str, Any] | None = None,
    ) -> Mask:
        new, missing = compiled(roots, mask, variables, counts, dict(more or {}), level)
        rounds.check(mesh_lib.fetch(missing))
        return new

    return pruned


def make_corrector(mesh: Mesh, criterion: Criterion, **seen: Any) -> Callable[..., Variables]:
    """Returns a function that lets the weights that remain make up for those that went.

    Args:
      mesh: the devices.
      criterion: one that corrects weights, such as `obs`.
      **seen: what it looks at, the fields of `Seen`.

    Returns:
      (roots [R], masks before, masks after, variables) → variables, whose pruned weights are zero.

    Raises:
      ValueError: the criterion corrects nothing.
    """
    of_network, correct = Seen(**seen), criterion.correct
    if correct is None:
        raise ValueError("this criterion corrects no weights")

    def corrected(root: jax.Array, mask: Mask, new: Mask, variables: Variables) -> Variables:
        evidence = evidence_of(of_network, root, mask, variables, {}, 0)
        return {**variables, "params": correct(evidence, new)}

    compiled: Callable[..., Variables] = replicates.each_replicate(mesh, corrected, once=True)
    return compiled


def check(criterion: Criterion, mask: Any, variables: Any, **seen: Any) -> None:
    """Refuses a criterion that cannot score the weights of a network; nothing is computed.

    Args:
      criterion: of a command.
      mask: path → shape, of the prunable leaves of one network.
      variables: their shapes.
      **seen: see `make_pruner`.

    Raises:
      ValueError: the error says why.
    """

    def scores(variables: Variables, mask: Mask) -> Any:
        more = dict.fromkeys(OF_TRAINING, variables["params"])
        root = jax.random.key(0)
        evidence = evidence_of(Seen(**seen), root, mask, variables, more, 0)
        return criterion(evidence)

    kept = {path: jax.ShapeDtypeStruct(leaf.shape, bool) for path, leaf in mask.items()}
    jax.eval_shape(scores, variables, kept)


def evidence_of(
    seen: Seen,
    root: jax.Array,
    mask: Mask,
    variables: Variables,
    more: Mapping[str, Any],
    level: Any,
) -> Evidence:
    """Returns the evidence of one replicate, whose functions take its parameters alone."""
    loss, apply = seen.loss, seen.apply

    def of_params(function: Callable[[Variables, Any], Any]) -> Callable[[Params, Any], Any]:
        return lambda params, examples: function({**variables, "params": params}, examples)

    return Evidence(
        params=variables["params"],
        mask=mask,
        key=jax.random.fold_in(keys.stream(root, "criterion"), level),
        loss=of_params(loss) if loss else None,
        examples=seen.examples,
        apply=of_params(apply) if apply else None,
        output_loss=seen.output_loss,
        batch_size=seen.batch_size,
        **more,
    )
