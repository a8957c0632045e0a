import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msdnet.blocks import Classifier
from tests.groundwork.architectures.small import quickly


def test_kernels_start_as_the_authors_draw_them():
    """Normal, √(2 / (k² outputs)); the linear layers uniform up to 1 / √inputs, as PyTorch's."""
    head = Classifier(classes=100, channels=128, dtype=jnp.float32)
    features = (jnp.zeros((1, 4, 4, 24)),)
    params = quickly(lambda key: head.init(key, features, False))(jax.random.key(0))["params"]
    kernel = np.asarray(params["conv1"]["conv"]["kernel"])  # [3, 3, 24, 128]
    assert kernel.std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert np.abs(kernel).max() > 3 * kernel.std()  # not cut at two deviations
    linear = np.asarray(params["linear"]["kernel"])
    assert np.abs(linear).max() == pytest.approx(128**-0.5, rel=0.01)
    assert linear.std() == pytest.approx(128**-0.5 / 3**0.5, rel=0.02)
    assert not np.any(params["linear"]["bias"])
