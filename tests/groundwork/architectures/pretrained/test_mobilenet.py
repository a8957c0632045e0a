from tests.groundwork.architectures.pretrained import peers


def test_logits_of_v1_are_timms():
    peers.check(
        "mobilenet_v1", peers.timm().create_model("mobilenetv1_100", num_classes=10), 64, 10
    )


def test_logits_of_v2_are_torchvisions():
    peer = peers.torchvision_models().mobilenet_v2(weights=None, num_classes=10)
    peers.check("mobilenet_v2", peer, 64, 10)


def test_logits_of_a_wider_v2_are_timms():
    peer = peers.timm().create_model("mobilenetv2_140", num_classes=10)
    peers.check("mobilenet_v2", peer, 33, 10, width=1.4)
