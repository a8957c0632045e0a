"""python -m lottery.early_bird.main --config=configs/lottery/early_bird_FILE.py --workdir=DIR …"""

import functools

from groundwork import study
from groundwork.entry import run_main
from lottery.early_bird import report, spec, work

STUDY = study.Study(
    command="lottery.early_bird",
    about="Early-bird tickets: draw a mask at every epoch until it stays, and train what is left.",
    example="configs/lottery/early_bird_digits.py",
    extendable=(),
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
