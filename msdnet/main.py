"""python -m msdnet.main --config=configs/msdnet/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from experiment import config as config_lib
from experiment import study
from experiment.entry import run_main
from msdnet import report, spec, training

STUDY = study.Study(
    usage=config_lib.USAGE.format(
        module="msdnet.main",
        about="Networks with several exits: train, choose when to stop, report what it saves.",
        example="configs/msdnet/fashion_mnist.py",
    ),
    extendable=("networks",),
    check=spec.from_config,
    units=spec.unit_names,
    prepare=training.prepare,
    show=report.show,
)
main = functools.partial(study.conduct, STUDY)
finished = functools.partial(study.finished, STUDY)

if __name__ == "__main__":
    run_main(main)
