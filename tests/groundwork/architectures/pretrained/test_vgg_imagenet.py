from tests.groundwork.architectures.pretrained import peers


def test_logits_are_torchvisions():
    network = peers.torchvision_models().vgg16(weights=None)
    peers.without_adaptive_pooling(network, fc1=0, features=2 * 2 * 512)
    peers.check("vgg_16_imagenet", network, 64)
