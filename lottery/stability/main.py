"""python -m lottery.stability.main --config=FILE --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import study
from groundwork.entry import run_main
from lottery.stability import report, spec, work

STUDY = study.Study(
    command="lottery.stability",
    about="Stability: train two copies from a step, and measure the error between them.",
    example="configs/lottery/stability_digits.py",
    extendable=("stability.steps", "stability.levels", "stability.between"),
    check=spec.from_config,
    units=spec.unit_names,
    steps=spec.steps,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    warn=spec.without_effect,
)
main = functools.partial(study.conduct, STUDY)

if __name__ == "__main__":
    run_main(main)
