"""From a network of any kind to the engines that run it on phones and servers.

`load` needs numpy and the engine alone; nothing here is imported before it is asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy import integers
    from deploy.engines import ENGINES, load
    from deploy.exports import export
    from deploy.graphs.trace import graph
else:
    _NAMES = {
        "ENGINES": "deploy.engines",
        "load": "deploy.engines",
        "export": "deploy.exports",
        "graph": "deploy.graphs.trace",
    }

    def __getattr__(name):
        import importlib

        if name in _NAMES:
            value = getattr(importlib.import_module(_NAMES[name]), name)
            globals()[name] = value
            return value
        if name == "integers":
            return importlib.import_module("deploy.integers")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ENGINES", "export", "graph", "integers", "load"]
