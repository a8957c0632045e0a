"""Counts of networks, layer by layer as their papers list them, apart from the modules."""

from tests.groundwork.architectures.layer_tables import efficientnet, resnet

TABLES = {
    **efficientnet.TABLES,
    **resnet.TABLES,
}  # name, or name and a setting: "shufflenet_v1 groups=8"
