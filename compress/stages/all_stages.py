"""All stages. A new one is a file of this package, a line here, and a section of its config.

The defaults of the sections stand in `configs/compress/base.py`.
"""

from compress.stages import distill, equalize, factorize, prune, quantize, share, structured
from compress.stages.stage import Stage

STAGES: dict[str, Stage] = {
    "share": share.STAGE,
    "factorize": factorize.STAGE,
    "prune": prune.STAGE,
    "distill": distill.STAGE,
    "structured": structured.STAGE,
    "equalize": equalize.STAGE,
    "quantize": quantize.STAGE,
}
