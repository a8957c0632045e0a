"""What every command says before it works."""

import jax
import pytest

from groundwork import study


@pytest.mark.parametrize("section", ["model", "msdnet"])
def test_bfloat16_on_a_cpu_is_warned_of(section, monkeypatch):
    config = {"seed": 0, section: {"name": "resnet_20", "dtype": "bfloat16"}}
    (said,) = study._slower(config)
    assert said.startswith(f"{section}.dtype=bfloat16 is mostly slower than float32")
    assert study._slower({section: {"dtype": "float32"}}) == []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert study._slower(config) == []
