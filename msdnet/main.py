"""python -m msdnet.main --config=configs/msdnet/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import config as config_lib
from groundwork import study
from groundwork.entry import run_main
from msdnet import report, spec, work

STUDY = study.Study(
    usage=config_lib.USAGE.format(
        module="msdnet.main",
        about="Networks with several exits: train, choose when to stop, report what it saves.",
        example="configs/msdnet/fashion_mnist.py",
    ),
    extendable=("networks",),
    check=spec.from_config,
    units=spec.unit_names,
    prepare=work.prepare,
    show=report.show,
)
main = functools.partial(study.conduct, STUDY)
finished = functools.partial(study.finished, STUDY)

if __name__ == "__main__":
    run_main(main)
