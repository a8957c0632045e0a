import jax
import numpy as np
import pytest

from groundwork.architectures import build, shapes
from groundwork.architectures.pretrained import conversion, efficientnet
from groundwork.architectures.pretrained.networks import naming
from tests.groundwork.architectures.pretrained import peers


def test_logits_are_torchvisions():
    peer = peers.torchvision_models().efficientnet_b0(weights=None, num_classes=10)
    peers.check("efficientnet_b0", peer, 64, 10)


def test_scaled_logits_are_timms():
    peer = peers.timm().create_model("efficientnet_b1", num_classes=10)
    peers.check("efficientnet_b0", peer, 64, 10, depth=1.1)


@pytest.mark.parametrize("activation", ["relu6", "relu"])
def test_logits_of_the_lite_form_are_timms(activation):
    peer = peers.timm().create_model("efficientnet_lite0", num_classes=10, act_layer=activation)
    peers.check("efficientnet_lite0", peer, 64, 10, activation=activation)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (efficientnet.torchvision_layers, "features.2.0.block.2.fc1.weight"),
        (efficientnet.timm_layers, "blocks.1.0.se.conv_reduce.weight"),
        (efficientnet.port_layers, "_blocks.1._se_reduce.weight"),
    ],
)
def test_a_file_is_known_by_its_names(place, expected):
    module = build({"name": "efficientnet_b0", "width": 0.1}, 3)
    found = shapes(module, (32, 32, 3))
    variables = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), found)
    tensors = conversion.to_torch(place(module), variables)
    assert tensors[expected].shape == (2, 48, 1, 1)
    assert naming("efficientnet_b0", module, tensors) == place(module)
    back = conversion.from_torch(place(module), tensors, found)
    assert jax.tree.map(np.shape, back) == jax.tree.map(np.shape, found)
