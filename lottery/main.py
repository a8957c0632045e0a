"""python -m lottery.main --config=configs/lottery/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import config as config_lib
from groundwork import study
from groundwork.entry import run_main
from lottery import report, spec, tickets, work

STUDY = study.Study(
    usage=config_lib.USAGE.format(
        module="lottery.main",
        about="Lottery tickets: train, prune, rewind, repeat, with controls beside, and a report.",
        example="configs/lottery/mnist1d.py",
    ),
    extendable=("levels", "branches"),
    check=spec.from_config,
    units=tickets.unit_names,
    prepare=work.prepare,
    show=report.show,
)
main = functools.partial(study.conduct, STUDY)
finished = functools.partial(study.finished, STUDY)

if __name__ == "__main__":
    run_main(main)
