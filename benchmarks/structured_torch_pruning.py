"""What Torch-Pruning makes of `structured_torch`'s networks: for `structured{,_peers}`.

Variables have the paths and shapes that they have in `structured_jax`.
"""

import copy
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

from benchmarks import setting
from benchmarks.structured_torch import NETWORKS

HEADS = dict.fromkeys(("attentive", "static", "stream"), "qkv")  # layers that make four of 8 each
STAYS = dict.fromkeys(("attentive", "static"), "patches")  # a layer whose outputs stay
Entry = tuple[str, int, int]  # path, axis, position


def loaded(network: str, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Returns a network in evaluation, with the variables of ours: path → array."""
    model = NETWORKS[network]()
    state = {place: torch.tensor(_turned(arrays[path], -1)) for path, place in _paths(model)}
    model.load_state_dict(state, strict=False)
    missing = set(arrays) - {path for path, _ in _paths(model)}
    assert not missing, f"PyTorch's {network} lacks {missing}"
    return model.eval()


def arrays_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Returns path → array, as ours has them."""
    state = model.state_dict()
    return {path: _turned(state[place].numpy(), 1) for path, place in _paths(model)}


def _paths(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Gives the path of each variable in ours, and its name here."""
    names = {"weight": "kernel", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    for name, layer in model.named_children():
        for leaf in layer.state_dict():
            if leaf in names:
                kernel = leaf == "weight" and isinstance(layer, nn.Conv2d | nn.Linear)
                own = names[leaf] if kernel or leaf != "weight" else "scale"
                yield path(name, own), f"{name}.{leaf}"


def path(layer: str, leaf: str) -> str:
    """Returns the path of a variable in ours."""
    return f"{'batch_stats' if leaf in ('mean', 'var') else 'params'}/{layer}/{leaf}"


def _turned(array: np.ndarray, way: int) -> np.ndarray:
    """Returns a kernel in the other's order: [O, I, H, W] ↔ [H, W, I, O], [O, I] ↔ [I, O]."""
    if array.ndim < 4:
        return array.T.copy()
    order = (2, 3, 1, 0) if way > 0 else (3, 2, 0, 1)
    return array.transpose(order).copy()


def stays(network: str, model: nn.Module) -> list[nn.Module]:
    """Returns the layers whose outputs stay."""
    return [getattr(model, name) for name in ("output", STAYS.get(network)) if name]


def analysed(network: str, model: nn.Module, images: torch.Tensor) -> tuple[Any, float]:
    """Returns the groups of Torch-Pruning, and the seconds that they took."""
    begun = time.perf_counter()
    graph = tp.DependencyGraph().build_dependency(model, images)
    kinds, ignored = [nn.Conv2d, nn.Linear], stays(network, model)
    groups = list(graph.get_all_groups(ignored_layers=ignored, root_module_types=kinds))
    return groups, time.perf_counter() - begun


def units(network: str, model: nn.Module, groups: Any) -> set[frozenset[Entry]]:
    """Returns the units of groups, each as the entries of our variables that go together."""
    names = {layer: name for name, layer in model.named_children()}
    found: set[frozenset[Entry]] = set()
    for group in groups:
        of_heads = any(names.get(item.dep.layer) in tuple(HEADS.get(network, "")) for item in group)
        entries: dict[int, set[Entry]] = {}
        for item in group:
            for root, several in zip(item.root_idxs, _entries(names, item), strict=False):
                entries.setdefault(root // (8 if of_heads else 1), set()).update(several)
        found |= {frozenset(unit) for unit in entries.values()}
    return found


def _entries(names: Mapping[nn.Module, str], item: Any) -> list[set[Entry]]:
    """Returns what each index of an item of a group is in our variables."""
    layer = item.dep.layer
    if layer not in names:  # an operation without variables
        return []
    axes = _axes(layer, item.dep.pruning_fn.__name__)
    return [{(path(names[layer], leaf), axis, i) for leaf, axis in axes.items()} for i in item.idxs]


def _axes(layer: nn.Module, function: str) -> dict[str, int]:
    """Returns our names of a layer's variables that lose entries, and of each the axis."""
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        statistics = ("mean", "var") if isinstance(layer, nn.BatchNorm2d) else ()
        return dict.fromkeys(("scale", "bias", *statistics), 0)
    last = layer.weight.ndim - 1
    if "in_channels" in function and getattr(layer, "groups", 1) == 1:
        return {"kernel": last - 1}
    return {"kernel": last, **({"bias": 0} if layer.bias is not None else {})}


def pruned(network: str, model: nn.Module, images: torch.Tensor, ratio: float) -> nn.Module:
    """Prunes a network by the L2 norms of its units, and returns it with zeros in their place.

    The norms are those of all entries of a unit, biases too.
    """
    norms = tp.importance.GroupMagnitudeImportance(
        p=2, group_reduction="sum", normalizer=None, bias=True
    )
    how: dict[str, Any] = {}
    if makers := HEADS.get(network):
        how = {"num_heads": {getattr(model, name): 4 for name in makers}}
        how |= {"prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": ratio}
    pruner = tp.pruner.BasePruner(
        model,
        images,
        importance=norms,
        pruning_ratio=ratio,
        ignored_layers=stays(network, model),
        **how,
    )
    zeros = copy.deepcopy(model)
    names = {layer: name for name, layer in model.named_children()}
    for group in pruner.step(interactive=True):
        for item in group:
            if item.dep.layer in names and not isinstance(item.dep.layer, nn.LSTM):
                _zero(getattr(zeros, names[item.dep.layer]), item)
        group.prune()
    return zeros


@torch.no_grad()
def _zero(layer: nn.Module, item: Any) -> None:
    """Sets the entries of a layer to zero that an item of a group removes."""
    takes = "in_channels" in item.dep.pruning_fn.__name__ and getattr(layer, "groups", 1) == 1
    weight = layer.weight.T if isinstance(layer, nn.Linear) else layer.weight
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        outputs = 1 if isinstance(layer, nn.ConvTranspose2d | nn.Linear) else 0
        weight.index_fill_(1 - outputs if takes else outputs, torch.tensor(item.idxs), 0)
    else:
        weight[item.idxs] = 0
    if not takes and layer.bias is not None:
        layer.bias[item.idxs] = 0


def compared(
    network: str, arrays: Mapping[str, np.ndarray], images: np.ndarray, ratio: float
) -> dict[str, Any]:
    """Returns what Torch-Pruning makes of a network with these variables.

    Args:
      network: one of `NETWORKS`.
      arrays: path → array.
      images: [B, H, W, C].
      ratio: of the units that go.
    """
    given = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    model = loaded(network, arrays)
    whole = called(model, given)
    analysed(network, model, given)  # warms up
    groups, seconds = analysed(network, model, given)
    found = units(network, model, groups)
    pruned(network, model, given, ratio)
    return {
        "units": found,
        "seconds": seconds,
        "arrays": arrays_of(model),
        "whole": whole,
        "logits": called(model, given),
    }


def tried(network: str, images: np.ndarray, ratio: float) -> dict[str, Any]:
    """Returns what happens when Torch-Pruning prunes a network with weights of its own.

    Args:
      network: one of `NETWORKS`.
      images: [B, H, W, C].
      ratio: of the units that go.
    """
    given = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    before = sum(p.numel() for p in model.parameters())
    try:
        zeros = pruned(network, model, given, ratio)
    except Exception as error:  # whatever it raises is what is shown
        return {"left": None, "said": f"it is not pruned: {type(error).__name__}: {error}"}
    left = sum(p.numel() for p in model.parameters()) / before
    try:
        outputs = called(model, given)
    except RuntimeError as error:
        return {"left": left, "said": f"the pruned network cannot be called: {error}"}
    return {"left": left, "said": setting.distance(outputs, called(zeros, given))}


def called(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return model(images).numpy()


def make(network: str, layout: str) -> dict[str, Callable[[int], None]]:
    """Returns form → (batch) → None: calls of the whole network, and of one half as wide.

    Args:
      network: one of `NETWORKS`.
      layout: of images and kernels, such as `channels_last`.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    form = getattr(torch, layout)

    @functools.cache
    def images(batch: int) -> torch.Tensor:
        return torch.randn(batch, 3, 32, 32).to(memory_format=form)

    def call(model: nn.Module) -> Callable[[int], None]:
        laid = copy.deepcopy(model).to(memory_format=form)
        return functools.partial(_call, laid, images)

    model = NETWORKS[network]().eval()
    whole = call(model)
    pruned(network, model, torch.randn(2, 3, 32, 32), 0.5)
    return {"whole": whole, "narrow": call(model)}


def _call(model: nn.Module, images: Callable[[int], torch.Tensor], batch: int) -> None:
    with torch.inference_mode():
        model(images(batch))
