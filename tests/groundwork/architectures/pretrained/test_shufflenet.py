import pytest

from tests.groundwork.architectures.pretrained import peers


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_logits_of_v2_are_torchvisions(width):
    name = f"shufflenet_v2_x{width}".replace(".", "_")
    peer = peers.torchvision_models().get_model(name, weights=None, num_classes=10)
    peers.check("shufflenet_v2", peer, 64, 10, width=width)
