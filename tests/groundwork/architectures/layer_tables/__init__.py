"""Counts of networks, layer by layer as their papers list them, apart from the modules."""

from tests.groundwork.architectures.layer_tables import resnet, squeezedet, squeezenet

TABLES = {  # name, or name and a setting: "shufflenet_v1 groups=8"
    **resnet.TABLES,
    **squeezedet.TABLES,
    **squeezenet.TABLES,
}
