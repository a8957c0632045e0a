"""The error function, which TensorFlow Lite has not, from operators that it has."""

from collections.abc import Callable, Sequence

import numpy as np

from deploy.graphs.graph import Node
from deploy.writers.tflite.draft import Draft, Options
from deploy.writers.tflite.file import Tensor

P = 0.3275911
A = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Of t⁵, t⁴, …, t for t = 1 / (1 + p |x|)."""


def erf(draft: Draft, node: Node) -> Tensor:
    """sign(x) (1 − (a₁ t + … + a₅ t⁵) exp(−x²)) as floats, which is erf(x) within 6e-7.

    The sign is x / (|x| + tiny): 0 at 0, as the function itself.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26 (1.5e-7, before it is
    rounded to float32).
    """
    x = draft.on(node.inputs[0], None)
    of = _arithmetic(draft, node, x.shape)
    size = draft.add("ABS", [x], f"{node.output}/size", x.shape, None, ("AbsOptions", {}))
    t = of("DIV", 1.0, of("ADD", of("MUL", size, P), 1.0))
    total: Tensor | float = A[0]
    for factor in A[1:]:
        total = of("ADD", of("MUL", total, t), factor)
    power = of("MUL", of("MUL", x, x), -1.0)
    name = f"{node.output}/exp"
    exp = draft.add("EXP", [power], name, x.shape, None, ("ExpOptions", {}))
    rest = of("SUB", 1.0, of("MUL", of("MUL", total, t), exp))
    sign = of("DIV", x, of("ADD", size, float(np.finfo(np.float32).tiny)))
    return of("MUL", sign, rest)


def _arithmetic(draft: Draft, node: Node, shape: Sequence[int]) -> Callable[..., Tensor]:
    """Returns a function that adds an operator on two tensors or numbers."""

    def of(code: str, left: Tensor | float, right: Tensor | float) -> Tensor:
        given = [
            draft.file.constant("number", np.float32(one)) if isinstance(one, float) else one
            for one in (left, right)
        ]
        options: Options = (f"{code.title()}Options", {"fusedActivationFunction": 0})
        return draft.add(code, given, node.output, shape, None, options)

    return of
