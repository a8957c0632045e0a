"""The forms of a chain's convolution: their memory, their bits, on one thread and on several."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from groundwork.architectures import unfolded
from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu import convolution
from groundwork.architectures.cpu.chain import FORMS, Chain, Node
from tests.conftest import ROOT
from tests.groundwork.architectures.cpu.onednn import needs_onednn
from tests.groundwork.architectures.test_unfolded import BYTES

pytestmark = needs_onednn
UNFOLDED = {"im2col": unfolded.im2col_bytes, "mec": unfolded.mec_bytes}
OF_PRODUCTS = 4096  # bytes that oneDNN's product needs at most on a few threads


def alone(images, kernel, strides, padding, groups, form):
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in (images, kernel)]
    geometry = convolution.geometry(*shapes, strides, padding, groups=groups)
    fields = (*geometry.descriptor("output", 32).tolist(), FORMS.index(form))
    nodes = (Node("convolve", (0,), 1, fields),)
    return geometry, Chain((geometry.input, geometry.output), 1, (1,), nodes)


@pytest.mark.parametrize("form", UNFOLDED)
@pytest.mark.parametrize("name", BYTES)
def test_scratch_memory_is_what_the_formulas_say(name, form):
    geometry, chain = alone(*BYTES[name][:5], form)
    outputs = geometry.output
    by_group = geometry.groups > 1 and not unfolded.is_depthwise(geometry)
    product = outputs[1] * outputs[2] * outputs[3] // geometry.groups * 4 if by_group else 0
    (scratch,) = chain_lib.scratch_bytes(chain)
    least = UNFOLDED[form](geometry) + product
    assert least <= scratch <= least + OF_PRODUCTS
    assert chain_lib.implementations(chain)[0].startswith(f"{form}:")


def test_a_form_that_there_is_not_is_refused():
    _, chain = alone(*BYTES["3×3"][:5], "mec")
    (node,) = chain.nodes
    wrong = node._replace(fields=(*node.fields[:-1], len(FORMS)))
    with pytest.raises(ValueError, match="a convolution of no form"):
        chain_lib.scratch_bytes(chain._replace(nodes=(wrong,)))


CHILD = """
import hashlib, jax, numpy as np
from groundwork.architectures.cpu import chain as chain_lib
from tests.groundwork.architectures.cpu.test_forms import alone
random = np.random.default_rng(0)
for case in (((2, 19, 23, 5), (3, 3, 5, 70), (2, 1), "SAME", 1),
             ((1, 33, 35, 24), (3, 3, 1, 24), (1, 1), "SAME", 24)):
    for form in ("im2col", "mec"):
        geometry, chain = alone(*case, form)
        shapes = geometry.kernel, geometry.kernel[3:]
        weights = [random.normal(size=s).astype("f4") for s in shapes]
        x = random.normal(size=geometry.input).astype("f4")
        packed = chain_lib.pack(chain, weights)
        runs = {np.asarray(chain_lib.run(chain, packed, [x])[0]).tobytes() for _ in range(5)}
        print(len(runs), hashlib.sha256(min(runs)).hexdigest())
        expected = chain_lib.by_lax(chain, weights, [x])[0]
        assert np.abs(np.frombuffer(min(runs), "f4") - np.ravel(expected)).max() < 1e-4
"""


def test_bits_are_the_same_in_every_run():
    command = [sys.executable, "-c", CHILD]
    one, first, second = (
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for threads in ("1", "2", "2")
    )
    assert first == second
    assert [line.split()[0] for line in one + first] == ["1"] * 8
