"""python -m compress.search --config=configs/search/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import functools

from compress.search import report, spec, work
from groundwork import study
from groundwork.entry import run_main

STUDY = study.Study(
    command="compress.search",
    about="Automated compression: name what a network may cost, or lose, and get the network.",
    example="configs/search/lenet5_fashion_mnist.py",
    extendable=("evaluations", "search.seconds"),
    check=spec.from_config,
    units=spec.unit_names,
    steps=spec.steps,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    warn=spec.without_effect,
    lost=work.lost,
)
main = functools.partial(study.conduct, STUDY)

if __name__ == "__main__":
    run_main(main)
