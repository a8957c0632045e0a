from tests.groundwork.architectures.pretrained import peers


def test_logits_are_torchvisions():
    peers.check("densenet_121", peers.torchvision_models().densenet121(weights=None), 64)
