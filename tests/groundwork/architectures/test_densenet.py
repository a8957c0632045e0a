"""Dense networks without bottlenecks beside numpy; with them, beside PyTorch's elsewhere."""

import numpy as np
import pytest

from groundwork.architectures import build, shapes
from groundwork.architectures.densenet import DenseNet40
from groundwork.errors import UserError
from tests.groundwork.architectures.references import Evaluated, convolve, dense, relu
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly


def averaged(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


@pytest.mark.parametrize("bottleneck", [False, True])
def test_logits_are_those_of_numpy(bottleneck):
    module = DenseNet40(5, blocks=(2, 1), growth=3, bottleneck=bottleneck, compression=0.7)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    tree = drawn_by_numpy(module, x.shape[1:])
    found = quickly(module.apply)(*as_float32((tree, x)))
    p, norm = tree["params"], Evaluated(tree["params"], tree["batch_stats"])
    x = convolve(p["conv1"], x, padding=1)
    for layer in ("block1_1", "block1_2", "block2_1"):
        if layer == "block2_1":  # ⌊0.7 × 22⌋ channels
            x = averaged(convolve(p["transition1"], relu(norm("transition1_bn", x))))
            assert x.shape == (2, 4, 4, 15)
        y = relu(norm(f"{layer}/bn1", x))
        if bottleneck:
            y = relu(norm(f"{layer}/bn2", convolve(p[layer]["conv1"], y)))
        y = convolve(p[layer]["conv2" if bottleneck else "conv1"], y, padding=1)
        x = np.concatenate([x, y], -1)
    expected = dense(p["output"], relu(norm("bn2", x)).mean((1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_width_multiplies_growth_and_stem():
    found = shapes(build({"name": "densenet_40", "width": 0.25}, 10), (32, 32, 3))["params"]
    assert found["conv1"]["kernel"].shape == (3, 3, 3, 4)
    assert found["block3_12"]["conv1"]["kernel"].shape == (3, 3, 4 + 35 * 3, 3)


def test_images_that_the_transitions_leave_nothing_of_are_refused():
    module = DenseNet40(5, blocks=(1, 1, 1))
    assert shapes(module, (4, 4, 3))
    with pytest.raises(UserError, match="too small"):
        shapes(module, (3, 3, 3))
