"""python -m pruning.main --config=configs/pruning/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import study
from groundwork.entry import run_main, run_script
from pruning import report, spec, work

STUDY = study.Study(
    command="pruning",
    about="Smaller networks: remove units of a trained one, fine-tune it, report what it saves.",
    example="configs/pruning/digits.py",
    extendable=("prune.ratio",),
    check=spec.from_config,
    units=spec.unit_names,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    warn=spec.without_effect,
)
main = functools.partial(study.conduct, STUDY)
run = functools.partial(run_script, main)  # the script of that name

if __name__ == "__main__":
    run_main(main)
