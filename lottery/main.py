"""python -m lottery.main --config=configs/lottery/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import study
from groundwork.entry import run_main, run_script
from lottery import report, results, spec, work
from lottery.branches import BRANCHES

STUDY = study.Study(
    command="lottery",
    about="Lottery tickets: train, prune, rewind and repeat, with controls; then report.",
    example="configs/lottery/mnist1d.py",
    extendable=("levels", "ticket.levels", *(f"branches.{name}" for name in BRANCHES)),
    check=spec.from_config,
    units=spec.unit_names,
    steps=spec.steps,
    following=spec.following,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    warn=spec.without_effect,
    lost=results.lost,
)
main = functools.partial(study.conduct, STUDY)
run = functools.partial(run_script, main)  # the script of that name

if __name__ == "__main__":
    run_main(main)
