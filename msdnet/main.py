"""python -m msdnet.main --config=configs/msdnet/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from groundwork import study
from groundwork.entry import run_main, run_script
from msdnet import report, spec, work

STUDY = study.Study(
    command="msdnet",
    about="Networks with several exits: train, choose when to stop, report what it saves.",
    example="configs/msdnet/fashion_mnist.py",
    extendable=("networks",),
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
