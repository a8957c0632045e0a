"""Networks of torchvision and timm, with random weights, beside ours."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.architectures import build, pretrained, shapes
from groundwork.architectures.pretrained import conversion
from groundwork.architectures.pretrained.networks import naming
from tests.groundwork.architectures.small import quickly


def torchvision_models():
    """`torchvision.models`, or a skip; its compiled operators need not fit this PyTorch."""
    return _with_operators("torchvision").models


def timm():
    """`timm`, or a skip."""
    return _with_operators("timm")


def _with_operators(name):
    torch = pytest.importorskip("torch")
    if "torchvision" not in sys.modules:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.ours = library  # an operator lives as long as its library
    return pytest.importorskip(name)


def randomized(network, seed=0):
    """The network in evaluation, all its tensors drawn anew, none of them 0 or 1."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.normal_(0, 0.1, generator=generator)
        elif tensor.is_floating_point():
            fan_in = tensor[0].numel()
            tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return network.eval()


def without_adaptive_pooling(network, fc1, features):
    """Lets the network take small images: `classifier[fc1]` takes their `features` as they are."""
    import torch

    network.avgpool = torch.nn.Identity()
    network.classifier[fc1] = torch.nn.Linear(features, network.classifier[fc1].out_features)


def check(name, peer, size, classes=1000, **section):
    """Our logits equal the peer's within 1e-4 of the largest, and the state dict comes back.

    Its naming is found by its names.
    """
    import torch

    module = build({"name": name, **section}, classes)
    state = {key: tensor.numpy() for key, tensor in randomized(peer).state_dict().items()}
    layers = naming(name, module, state)
    variables = pretrained.from_torch(layers, state, shapes(module, (size, size, 3)))
    inputs = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    found = quickly(module.apply)(variables, jnp.asarray(inputs))
    with torch.no_grad():
        expected = peer(torch.from_numpy(inputs).permute(0, 3, 1, 2)).numpy()
    assert expected.std(0).max() > 1e-3 * abs(expected).max()  # the two images differ
    np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())
    back = conversion.to_torch(layers, variables)
    assert back.keys() == state.keys()
    for key in state:
        np.testing.assert_array_equal(back[key], state[key] if "num_batches" not in key else 0)
