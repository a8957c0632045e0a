from tests.groundwork.architectures.pretrained import peers


def test_logits_are_torchvisions():
    network = peers.torchvision_models().alexnet(weights=None)
    peers.without_adaptive_pooling(network, fc1=1, features=2 * 2 * 256)
    peers.check("alexnet", network, 96)
