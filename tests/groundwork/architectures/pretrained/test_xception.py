from tests.groundwork.architectures.pretrained import peers


def test_logits_are_timms():
    peer = peers.timm().create_model("legacy_xception", num_classes=10)
    peers.check("xception", peer, 64, 10)
