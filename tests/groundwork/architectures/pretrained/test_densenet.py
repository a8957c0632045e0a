import re

from groundwork.architectures import build
from groundwork.architectures.pretrained import families, networks
from tests.groundwork.architectures.pretrained import peers


def test_logits_are_torchvisions():
    peers.check("densenet_121", peers.torchvision_models().densenet121(weights=None), 64)


def test_the_names_of_the_file_that_torchvision_offers_are_read_too():
    module = build({"name": "densenet_121"}, 1000)
    now = families.LAYERS["densenet_121"](module)
    offered = {
        path: re.sub(r"(norm|conv)(\d)$", r"\1.\2", name) if "denselayer" in name else name
        for path, name in now.items()
    }
    for names in (now, offered):
        tensors = [f"{name}.weight" for name in names.values()]
        assert networks.naming("densenet_121", module, tensors) == names
    assert offered["block1_1/conv2"] == "features.denseblock1.denselayer1.conv.2"
