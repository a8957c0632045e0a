"""python -m compress.main --config=configs/compress/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from compress import pipeline, report, spec
from experiment import config as config_lib
from experiment import study
from experiment.entry import run_main

STUDY = study.Study(
    usage=config_lib.USAGE.format(
        module="compress.main",
        about="Deep compression: from a trained network to the smallest file that classifies.",
        example="configs/compress/lenet300_fashion_mnist.py",
    ),
    extendable=("prune.levels", "factorize.shares", "quantize.bits"),
    check=spec.from_config,
    units=spec.unit_names,
    prepare=pipeline.prepare,
    show=report.show,
    mend=pipeline.mend,
)
main = functools.partial(study.conduct, STUDY)
finished = functools.partial(study.finished, STUDY)

if __name__ == "__main__":
    run_main(main)
