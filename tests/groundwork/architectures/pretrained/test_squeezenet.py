import pytest

from tests.groundwork.architectures.pretrained import peers


@pytest.mark.parametrize("name", ["squeezenet_1_0", "squeezenet_1_1"])
def test_logits_are_torchvisions(name):
    models = peers.torchvision_models()
    peers.check(name, models.get_model(name.replace("net_", "net"), weights=None), 66)
