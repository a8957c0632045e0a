"""From a network of any kind to the engines that run it on phones and servers.

`load` needs numpy and the engine alone; nothing here is imported before it is asked for.
"""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from deploy import integers
    from deploy.engines import ENGINES, load
    from deploy.exits import export_exits
    from deploy.exports import export
    from deploy.graphs.trace import graph
    from deploy.runtimes.exits import load_exits
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__,
        {
            "deploy": ("integers",),
            "deploy.engines": ("ENGINES", "load"),
            "deploy.exits": ("export_exits",),
            "deploy.exports": ("export",),
            "deploy.graphs.trace": ("graph",),
            "deploy.runtimes.exits": ("load_exits",),
        },
    )

__all__ = [
    "ENGINES",
    "export",
    "export_exits",
    "graph",
    "integers",
    "load",
    "load_exits",
]
