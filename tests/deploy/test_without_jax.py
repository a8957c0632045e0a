"""`deploy.load` where JAX is not: engines' files as functions of numpy arrays."""

import json
import subprocess
import sys
import tomllib

import jax
import numpy as np
import pytest

from deploy import engines, exports
from deploy.graphs.evaluate import evaluate
from tests.conftest import ROOT
from tests.deploy.graphs_by_hand import images, small

HERE = [name for name in engines.installed() if name != "coreml"]  # which predicts on macOS alone
CODE = """
import sys
for name in ("jax", "jaxlib", "flax", "optax", "ml_collections", "onnx"):
    sys.modules[name] = None  # any import of it fails
import json
import numpy as np
import deploy
inputs = np.load("inputs.npy")
files = json.load(open("files.json"))
found = {name: deploy.load(path, name)(inputs) for name, path in files.items()}
np.savez("outputs.npz", **found)
"""


@pytest.mark.skipif(not HERE, reason="no engine is installed")
def test_each_engine_runs_its_file_without_jax(tmp_path):
    graph, inputs = small(), images(4)
    paths = {name: str(exports.write(graph, name, tmp_path / name)[0]) for name in HERE}
    np.save(tmp_path / "inputs.npy", inputs)
    (tmp_path / "files.json").write_text(json.dumps(paths))
    env = {"PYTHONPATH": str(ROOT), "PATH": ""}
    subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=env, check=True)
    program = jax.jit(lambda x: evaluate(graph, x)["logits"])
    expected = np.concatenate([program(inputs[:2]), program(inputs[2:])])
    with np.load(tmp_path / "outputs.npz") as found:
        assert set(found.files) == set(HERE)
        for name in HERE:
            np.testing.assert_allclose(found[name], expected, atol=1e-5, err_msg=name)


def test_a_file_of_requirements_is_numpy_and_the_engine():
    def pins(path):
        return [line for line in path.read_text().splitlines() if line[:1] not in ("#", "-")]

    pinned = {*pins(ROOT / "requirements.txt"), *pins(ROOT / "requirements-deploy.txt")}
    numpy = next(line for line in pinned if line.startswith("numpy=="))
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in engines.ENGINES:
        lines = pins(ROOT / f"deploy/runtimes/requirements-{name}.txt")
        engine = engines.TABLE[name].install
        assert sorted(lines) == sorted([numpy, *(p for p in pinned if p.startswith(f"{engine}=="))])
        assert any(r.startswith(f"{engine}>=") for r in extra["optional-dependencies"]["deploy"])


@pytest.mark.skipif(not HERE, reason="no engine is installed")
def test_a_file_that_is_not_there_and_what_is_no_count():
    with pytest.raises(FileNotFoundError, match=r"^there is no file nowhere.onnx$"):
        engines.load("nowhere.onnx", HERE[0])
    for threads in (0, True, 1.5):
        with pytest.raises(ValueError, match=r"^threads=.* must be a count from 1 to 1024$"):
            engines.load("nowhere.onnx", HERE[0], threads)
