"""python -m compress.main --config=configs/compress/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from compress import report, spec, work
from groundwork import study
from groundwork.entry import run_main

STUDY = study.Study(
    command="compress",
    about="Deep compression: from a trained network to the smallest file that classifies.",
    example="configs/compress/lenet300_fashion_mnist.py",
    extendable=("prune.levels", "factorize.shares", "quantize.bits"),
    check=spec.from_config,
    units=spec.unit_names,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    mend=work.mend,
)
main = functools.partial(study.conduct, STUDY)

if __name__ == "__main__":
    run_main(main)
