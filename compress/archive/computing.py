"""How the network of a file computes: `COMPUTING`, by the name that `load` takes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from groundwork.errors import UserError, unknown
from groundwork.traced import predictions

Apply = Callable[..., Any]


def dense(apply: Apply, variables: Any) -> Apply:
    """Returns the function as it is."""
    return apply


def sparse(apply: Apply, variables: Any) -> Apply:
    """Returns a function that meets no zeros of kernels, where that is faster on this machine.

    It is compiled, once for each shape of inputs, and takes the variables of the file alone, for
    whose zeros it was made. Further keywords are hashable settings, such as `train=False`.
    """
    fast = predictions.compiled(apply, variables, sparse=True)

    def computed(given: Any, *inputs: Any, **settings: Any) -> Any:
        if given is not variables:
            raise UserError(
                "a network that was loaded with compute='sparse' is computed for the zeros of its "
                "own variables: give it those that load returned, not changed or traced ones"
            )
        return fast(*inputs, **settings)

    return computed


COMPUTING: Mapping[str, Callable[[Apply, Any], Apply]] = MappingProxyType(
    {"dense": dense, "sparse": sparse}
)


def check(name: str) -> None:
    """Raises a UserError if there is no such way to compute."""
    if name not in COMPUTING:
        raise unknown("compute", name, COMPUTING)
