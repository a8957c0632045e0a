import pytest

from tests.groundwork.architectures.pretrained import peers


@pytest.mark.parametrize("name", ["resnet_18", "resnet_50"])
def test_logits_are_torchvisions(name):
    models = peers.torchvision_models()
    peers.check(name, models.get_model(name.replace("_", ""), weights=None), 64)
