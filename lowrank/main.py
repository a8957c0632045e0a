"""python -m lowrank.main --config=configs/lowrank/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import study
from groundwork.entry import run_main, run_script
from lowrank import report, spec, work

STUDY = study.Study(
    command="lowrank",
    about="Low-rank networks: decompose a trained one, fine-tune it, report what it saves.",
    example="configs/lowrank/lenet5_fashion_mnist.py",
    extendable=("decompose.methods", "decompose.shares"),
    check=spec.from_config,
    units=spec.unit_names,
    steps=spec.steps,
    following=spec.following,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    warn=spec.without_effect,
)
main = functools.partial(study.conduct, STUDY)
run = functools.partial(run_script, main)  # the script of that name

if __name__ == "__main__":
    run_main(main)
