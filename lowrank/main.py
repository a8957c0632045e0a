"""python -m lowrank.main --config=configs/lowrank/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from experiment import config as config_lib
from experiment import study
from experiment.entry import run_main
from lowrank import report, spec, sweep

STUDY = study.Study(
    usage=config_lib.USAGE.format(
        module="lowrank.main",
        about="Low-rank networks: decompose a trained one, fine-tune it, report what it saves.",
        example="configs/lowrank/lenet5_fashion_mnist.py",
    ),
    extendable=("decompose.methods", "decompose.shares"),
    check=spec.from_config,
    units=spec.unit_names,
    prepare=sweep.prepare,
    show=report.show,
)
main = functools.partial(study.conduct, STUDY)
finished = functools.partial(study.finished, STUDY)

if __name__ == "__main__":
    run_main(main)
