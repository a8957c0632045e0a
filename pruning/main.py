"""python -m pruning.main --config=configs/pruning/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import study
from groundwork.entry import run_main, run_script
from pruning import kinds, report

STUDY = study.Study(
    command="pruning",
    about="Smaller networks: remove units or single weights, after training or in it, and report.",
    example="configs/pruning/digits.py",
    extendable=("prune.ratio", "prune.density", "prune.strength"),
    check=kinds.check,
    units=kinds.units,
    steps=kinds.steps,
    following=kinds.following,
    prepare=kinds.prepare,
    show=report.show,
    compare=report.compare,
    warn=kinds.without_effect,
)
main = functools.partial(study.conduct, STUDY)
run = functools.partial(run_script, main)  # the script of that name

if __name__ == "__main__":
    run_main(main)
