"""python -m lottery.main --config=configs/lottery/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from experiment import config as config_lib
from experiment import study
from experiment.entry import run_main
from lottery import report, setup, spec, tickets

STUDY = study.Study(
    usage=config_lib.USAGE.format(
        module="lottery.main",
        about="Lottery tickets: train, prune, rewind, repeat, with controls beside, and a report.",
        example="configs/lottery/mnist1d.py",
    ),
    extendable=("levels", "branches"),
    check=spec.from_config,
    units=tickets.unit_names,
    prepare=setup.prepare,
    show=report.show,
)
main = functools.partial(study.conduct, STUDY)
finished = functools.partial(study.finished, STUDY)

if __name__ == "__main__":
    run_main(main)
