"""Weights of a small ResNet-18 in all formats, and what does not fit, in one line."""

import functools
import sys

import jax
import numpy as np
import pytest

from groundwork import trees
from groundwork.architectures import build, pretrained, shapes
from groundwork.architectures.pretrained import families, networks
from groundwork.errors import UserError
from groundwork.numerics import safetensors
from groundwork.runs import trained
from tests.groundwork.architectures.small import drawn_by_numpy

SECTION = {"name": "resnet_18", "width": 0.05}
IMAGE = (224, 224, 3)


@functools.cache
def small():
    """A module, and variables of float32."""
    module = build(SECTION, 3)
    drawn = drawn_by_numpy(module, IMAGE)
    return module, jax.tree.map(np.float32, drawn)


@pytest.fixture(autouse=True)
def _traced_once(monkeypatch):
    cached = functools.cache(shapes)
    monkeypatch.setattr(networks.registry, "shapes", cached)


@functools.cache
def state():
    return pretrained.to_torch(SECTION, small()[1])


def load(path, section=SECTION, classes=3):
    return pretrained.load(section, path, classes)


def written(path, tensors=None, **changes):
    """A file of the state dict; tensors whose change is None are left out."""
    tensors = {**(state() if tensors is None else tensors), **changes}
    tensors = {name: array for name, array in tensors.items() if array is not None}
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        safetensors.write(path, tensors)
    return path


def refused(path, **options):
    with pytest.raises(UserError, match=r".") as caught:
        load(path, **options)
    assert isinstance(caught.value, ValueError)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 500
    return said


def assert_equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_names_and_layouts_are_pytorchs():
    weights, ours = state(), small()[1]["params"]
    assert weights["conv1.weight"].shape == (3, 3, 7, 7)  # O, I, H, W
    np.testing.assert_array_equal(
        weights["layer2.0.downsample.0.weight"][4, 1, 0, 0],
        ours["block2_1"]["shortcut"]["kernel"][0, 0, 1, 4],
    )
    np.testing.assert_array_equal(weights["fc.weight"], ours["output"]["kernel"].T)
    assert weights["layer1.0.bn1.num_batches_tracked"] == 0
    assert len(weights) == 62 + 3 * 20  # as torchvision's has 122, of which 20 are counters


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    assert_equal(load(written(tmp_path / f"a{suffix}")), small()[1])
    parallel = {f"module.{name}": array for name, array in state().items()}
    assert_equal(load(written(tmp_path / f"b{suffix}", parallel)), small()[1])


def test_save_writes_a_state_dict(tmp_path):
    pretrained.save(tmp_path / "a.safetensors", state())
    assert_equal(load(tmp_path / "a.safetensors"), small()[1])
    with pytest.raises(UserError, match=r"a\.npz must end in \.safetensors"):
        pretrained.save(tmp_path / "a.npz", state())
    with pytest.raises(UserError, match=r"a\.safetensors cannot be written: .*No such file"):
        pretrained.save(tmp_path / "none" / "a.safetensors", state())


def test_an_npz_file_may_have_our_names(tmp_path):
    trained.save(tmp_path / "a.npz", small()[1])
    assert_equal(load(tmp_path / "a.npz"), small()[1])
    assert "there is no batch_stats/" in refused(tmp_path / "a.npz", section="resnet_50")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_floats_of_any_width_become_the_networks(tmp_path, dtype):
    kind = np.dtype(jax.numpy.dtype(dtype))
    short = {n: a if "num_batches" in n else a.astype(kind) for n, a in state().items()}
    found = load(written(tmp_path / "a.safetensors", short))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    wanted = jax.tree.map(lambda leaf: leaf.astype(kind).astype(np.float32), small()[1])
    assert_equal(found, wanted)


def test_what_does_not_fit_is_said_in_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    assert refused(written(path, **{"fc.bias": None})) == (
        f"{path} does not serve for resnet_18: fc.bias is missing, which is params/output/bias here"
    )
    head = {"fc.bias": None, "head.bias": state()["fc.bias"]}
    assert refused(written(path, **head)).endswith("here; it has head.bias instead")
    assert refused(written(path, extra=np.ones(1))).endswith(
        "it has extra besides, which this network has not"
    )
    assert refused(written(path, **{"fc.bias": np.zeros(3, int)})).endswith(
        "fc.bias is of int64, not of floats"
    )
    assert "bn1.bias has the shape (4,), not (3,), which params/bn1/bias needs" in refused(
        written(path, **{"bn1.bias": np.zeros(4)})
    )
    assert refused(written(path), classes=4).endswith("it has 3 classes, not 4")
    assert "has the shape (3,), not (6,)" in refused(path, section={**SECTION, "width": 0.1})
    cut = path.read_bytes()[:5000]
    path.write_bytes(cut)
    assert "cut off" in refused(path)


def test_weights_of_another_network_are_said_to_be_that(tmp_path):
    written(tmp_path / "a.npz")
    assert refused(tmp_path / "a.npz", section="resnet_50").endswith(
        "it holds the weights of another network: 102 of the 267 tensors of resnet_50 are among "
        "its 102; its layers are named as those of resnet_18"
    )
    written(tmp_path / "b.npz", {f"layer.{number}.weight": np.ones(1) for number in range(200)})
    assert refused(tmp_path / "b.npz").endswith(
        "another network: 0 of the 102 tensors of resnet_18 are among its 200"
    )


def test_networks_that_pytorch_does_not_know_are_refused(tmp_path):
    said = refused(written(tmp_path / "a.npz"), section="lenet_5")
    assert said.startswith("PyTorch's names are not known of lenet_5, but of ")
    with pytest.raises(UserError, match=r"not known of lenet_5"):
        pretrained.to_torch("lenet_5", {"params": {}})
    with pytest.raises(UserError, match=r"unknown model 'resnet_81'; did you mean 'resnet_18'\?"):
        load(tmp_path / "a.npz", "resnet_81")


def test_variables_of_another_network_are_not_written():
    with pytest.raises(UserError, match=r"not those of resnet_50: there is no batch"):
        pretrained.to_torch("resnet_50", small()[1])
    with pytest.raises(UserError, match=r"bn1/mean has the shape \(3,\), not \(64,\)"):
        pretrained.to_torch("resnet_18", small()[1])
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), small()[1])
    with pytest.raises(UserError, match=r"shape \(2, 3\), not \(3,\): take one replicate"):
        pretrained.to_torch(SECTION, two)


def test_a_second_way_of_naming_is_read_where_it_fits_better(tmp_path, monkeypatch):
    def older(module):
        return {path: f"_{name}" for path, name in families.LAYERS["resnet_18"](module).items()}

    monkeypatch.setattr(families, "OTHERS", {"resnet_18": (older,)})
    written(tmp_path / "a.npz", {f"_{name}": array for name, array in state().items()})
    assert_equal(load(tmp_path / "a.npz"), small()[1])
    assert_equal(load(written(tmp_path / "b.npz")), small()[1])


# files


@pytest.mark.parametrize("name", ["a.onnx", "a"])
def test_other_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert refused(tmp_path / name).endswith("must end in .npz, .safetensors, .pth, .pt")


def test_a_package_has_a_file_inside_and_is_not_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    inside = tmp_path / "weights_in_a_package" / "models"
    inside.mkdir(parents=True)
    (inside.parent / "__init__.py").write_text("raise RuntimeError")
    path = "package:weights_in_a_package"
    assert refused(path).endswith("weights_in_a_package has 0 files of weights inside, not one")
    written(inside / "a.npz")
    assert_equal(load(path), small()[1])
    found = trained.source(path, "", small()[0], shapes(small()[0], IMAGE), 2)
    assert_equal(trees.replicate(found, 1), small()[1])
    written(inside / "b.npz")
    assert "has 2 files" in refused(path)
    said = refused("package:no_such_package")
    assert said == (
        "package:no_such_package: no_such_package is not installed: pip install no_such_package"
    )
    assert "must be package:NAME" in refused("package:os.path")
    assert "weights_in_a_package" not in sys.modules


def test_without_pytorch_its_files_are_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"")
    assert "not installed: pip install torch, or save" in refused(tmp_path / "a.pth")
    assert "there is no such file" in refused(tmp_path / "b.pt")


def test_pytorchs_own_files_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    tensors = {name: torch.from_numpy(array) for name, array in state().items()}
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    for content in (tensors, {"state_dict": wrapped, "epoch": 3}, {"model": tensors, "best": 0.5}):
        torch.save(content, path)
        assert_equal(load(path), small()[1])
    torch.save(tensors, path, _use_new_zipfile_serialization=False)  # as older files are
    assert_equal(load(path), small()[1])
    half = {n: t.bfloat16() if t.is_floating_point() else t for n, t in tensors.items()}
    torch.save(half, path)
    wanted = jax.tree.map(
        lambda leaf: leaf.astype(jax.numpy.bfloat16).astype(np.float32), small()[1]
    )
    assert_equal(load(path), wanted)
    torch.save({**tensors, "fc.bias": torch.ones(3).to(torch.float8_e4m3fn)}, path)
    np.testing.assert_array_equal(load(path)["params"]["output"]["bias"], 1)


def test_files_of_pytorch_that_hold_something_else_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    for content, said in (
        (torch.ones(3), "it holds a Tensor, not a state dict"),
        ({"weights": torch.ones(3)}, "another network: 0 of the 102 tensors"),
        ({"state_dict": 5, "epoch": 3}, "it is no state dict: 'state_dict' is a int"),
        ({"x": torch.ones(3).to_sparse()}, "'x' is a sparse or quantised tensor"),
        ({"x": sys.exit}, "holds more than tensors"),
    ):
        torch.save(content, path)
        assert said in refused(path)
    content = path.read_bytes()
    for length in (0, 10, 100):
        path.write_bytes(content[:length])
        assert refused(path).startswith(f"{path} does not serve for resnet_18: ")


# as a run takes them


def test_a_run_names_the_key_and_takes_its_own_classes_and_images(tmp_path):
    module, path = small()[0], written(tmp_path / "a.safetensors")
    seen = shapes(module, (32, 32, 3))
    found = trained.source(str(path), "", module, seen, 2)
    assert_equal(trees.replicate(found, 0), small()[1])
    other = build(SECTION, 5)
    with pytest.raises(UserError, match=r"^source\.path: .*: it has 3 classes, not 5$"):
        trained.source(str(path), "", other, shapes(other, (32, 32, 3)), 1)
    written(path, **{"fc.bias": np.full(3, np.nan)})
    with pytest.raises(UserError, match=r"^source\.path: .*3 entries of params/output/bias are no"):
        trained.source(str(path), "", module, seen, 1)
    with pytest.raises(UserError, match=r"^source\.path: .* serve shipped networks alone$"):
        trained.source(str(path), "", None, seen, 1)
