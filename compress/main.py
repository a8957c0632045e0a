"""python -m compress.main --config=configs/compress/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from compress import report, spec, work
from groundwork import study
from groundwork.entry import run_main, run_script

STUDY = study.Study(
    command="compress",
    about="Deep compression: from a trained network to the smallest file that classifies.",
    example="configs/compress/lenet300_fashion_mnist.py",
    extendable=(
        "prune.levels",
        "factorize.shares",
        "distill.controls",
        "structured.ratio",
        "quantize.bits",
    ),
    check=spec.from_config,
    units=spec.unit_names,
    steps=spec.steps,
    following=spec.following,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    warn=spec.without_effect,
    lost=work.lost,
)
main = functools.partial(study.conduct, STUDY)
run = functools.partial(run_script, main)  # the script of that name

if __name__ == "__main__":
    run_main(main)
