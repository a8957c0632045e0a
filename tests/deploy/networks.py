"""Networks of all kinds in their smallest forms, each drawn, traced and computed by JAX once."""

import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import compress
import deploy
from compress import quantize
from deploy import grids
from deploy.graphs import trace
from deploy.graphs.graph import Graph
from deploy.sources import archives
from groundwork.architectures import build
from lowrank import factorization
from msdnet.model import MSDNet
from pruning import structured
from tests.deploy import in_numpy
from tests.groundwork.architectures.small import drawn_by_numpy, quickly
from tests.groundwork.architectures.test_contract import BATCH, CLASSES, FORMS, shallow
from tests.own.networks import NETWORKS as BROUGHT

SEVERAL = ("shufflenet v1", "cyclic", "nin")  # whose graphs are made for more images than one, too
TEXT = "Transformer LM, scanned and rematerialised (Linen)"
LENET = (16, 16, 1)


class Traced(NamedTuple):
    """A network and its graph.

    Attributes:
      network: what is traced, and its variables.
      inputs: two or more examples.
      graph: of a batch of one example.
      theirs: what JAX computes of all the inputs, a list of outputs.
      more: the graph of a batch of all the inputs, of `SEVERAL`.
    """

    network: tuple[Any, Any]
    inputs: np.ndarray
    graph: Graph
    theirs: list[np.ndarray]
    more: Graph | None = None


@functools.cache
def traced(name: str) -> Traced:
    """The network of one of `NETWORKS`, made at the first call."""
    if name in FORMS:
        return shallow(name, lambda: _of_form(name))
    return _of(*OTHERS[name]())


def _of_form(name: str) -> Traced:
    form = FORMS[name]
    module = form.make()
    inputs = tokens if form.tokens else images
    made = _of(module, drawn(module, form.example), inputs(BATCH, *form.shape))
    if name not in SEVERAL:
        return made
    return made._replace(more=deploy.graph(*made.network, made.inputs))


def _of(model: Any, variables: Any, inputs: np.ndarray, stored: Any = None) -> Traced:
    theirs = quickly(trace.evaluation(model))(variables, inputs)
    graph = deploy.graph(model, variables, inputs[:1], stored)
    listed = [np.asarray(one) for one in jax.tree.leaves(theirs)]
    return Traced((model, variables), inputs, graph, listed)


def drawn(module: Any, shape: Any, seed: int = 1) -> Any:
    """Variables of which some scales and means are negative."""
    rng = np.random.default_rng(seed)

    def signed(path: Any, leaf: Any) -> np.ndarray:
        sign = rng.choice([-1, 1], leaf.shape) if path[-1].key == "scale" else 1
        return np.float32(leaf * sign)

    return jax.tree_util.tree_map_with_path(signed, drawn_by_numpy(module, shape))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def tokens(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, CLASSES, shape, np.int32)


def _lenet() -> tuple[Any, Any, np.ndarray]:
    module = build({"name": "lenet_5", "width": 0.2}, 3)
    return module, drawn(module, LENET), images(BATCH, *LENET)


def _low_rank() -> tuple[Any, Any, np.ndarray]:
    module, variables, inputs = _lenet()
    plan = {"conv2": {"method": "tucker", "rank": [2, 3]}, "fc1": {"method": "svd", "rank": 2}}
    return *factorization.factorize(module, variables, plan, inputs[:1]), inputs


def _narrowed() -> tuple[Any, Any, np.ndarray]:
    module, variables, inputs = _lenet()
    whole = structured.groups(module, variables, inputs[:1])
    keep = {group.name: np.arange(group.units) % 3 > 0 for group in whole.groups}
    return *structured.narrow(whole, variables, keep), inputs


def _exits() -> tuple[Any, Any, np.ndarray]:
    module = MSDNet(3, blocks=2, base=1, step=1, channels=4, growth=2, head=4, stem="imagenet")
    return module, drawn(module, (32, 32, 3)), images(BATCH, 32, 32, 3)


def _resnet_20() -> tuple[Any, Any, np.ndarray]:
    module, shape = build({"name": "resnet_20", "width": 0.25}, 10), (16, 16, 3)
    return module, drawn(module, shape), images(BATCH, *shape)


def _text() -> tuple[Any, Any, np.ndarray]:
    one = BROUGHT[TEXT]()
    return one.model, one.variables, np.asarray(one.inputs)


def _quantized() -> tuple[Any, Any, np.ndarray, Any]:
    """LeNet-5 of a `.cna` file: a kernel of 8 bits and one of 4."""
    module, variables, inputs = _lenet()
    layers = {name: dict(leaves) for name, leaves in variables["params"].items()}
    for name, bits in (("conv2", 8), ("fc1", 4)):
        kernel = jnp.asarray(layers[name]["kernel"])
        layers[name]["kernel"] = quantize.uniform(kernel, bits, axis=kernel.ndim - 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.cna"
        compress.save(path, module, {"params": layers}, example=LENET)
        network = archives.load(path)
    return network.model, network.variables, inputs, network.stored


OTHERS = {
    "exits": _exits,
    "resnet_20": _resnet_20,
    "text": _text,
    "low-rank": _low_rank,
    "narrowed": _narrowed,
    ".cna": _quantized,
}
NETWORKS = (*FORMS, *OTHERS)
TOKENS = ("text", *(name for name, form in FORMS.items() if form.tokens))
INTEGERS = ("lenet", "densenet", "mobilenet v2", "exits", ".cna", "resnet_20")
EXAMPLES = 16


@functools.cache
def quantized(name: str) -> tuple[Graph, np.ndarray]:
    """A network of integers, and examples, among them those of its calibration."""
    made = traced(name)
    inputs = images(EXAMPLES, *made.inputs.shape[1:])
    return grids.quantized(made.graph, inputs), inputs


def one_by_one(run: Any, inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a function of one example, for all of them."""
    outputs = [run(example[None]) for example in inputs]
    outputs = [one if isinstance(one, tuple | list) else (one,) for one in outputs]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def assert_near(graph: Graph, theirs: Any, *inputs: Any) -> None:
    """What numpy computes of a graph is what JAX computed."""
    ours = in_numpy.run(graph, *inputs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())
