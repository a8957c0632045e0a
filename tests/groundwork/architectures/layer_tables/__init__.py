"""Counts of networks, layer by layer as their papers list them, apart from the modules."""

from tests.groundwork.architectures.layer_tables import (
    alexnet,
    densenet,
    efficientnet,
    mobilenet,
    nin,
    resnet,
    sep_net,
    shufflenet,
    squeezedet,
    squeezenet,
    student_net,
    text,
    transferred,
    vgg_imagenet,
    xception,
)

TABLES = {  # name, or name and a setting: "shufflenet_v1 groups=8"
    **alexnet.TABLES,
    **densenet.TABLES,
    **efficientnet.TABLES,
    **mobilenet.TABLES,
    **nin.TABLES,
    **resnet.TABLES,
    **sep_net.TABLES,
    **shufflenet.TABLES,
    **squeezedet.TABLES,
    **squeezenet.TABLES,
    **student_net.TABLES,
    **text.TABLES,
    **transferred.TABLES,
    **vgg_imagenet.TABLES,
    **xception.TABLES,
}
