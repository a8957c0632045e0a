"""Builds the site: `make docs`. Warnings are errors, and nothing is asked of a network."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sphinx.cmd.build import build_main

from website import check, house, pages, papers, reference, tutorials

ROOT = Path(__file__).parent.parent.parent


def main() -> int:
    """Returns 0, or 1 where a source, a link or a public name is wrong, or Sphinx warns."""
    parser = argparse.ArgumentParser(prog="website", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="a folder")
    out = parser.parse_args().out
    began = time.monotonic()
    if (out / ".buildinfo").exists():  # Sphinx's: an earlier site, of which nothing may be left
        shutil.rmtree(out)
    with tempfile.TemporaryDirectory(prefix="site") as folder:
        source = Path(folder)
        try:
            pages.assemble(source)
            pages.fill(source / "house.md", house.pictures())
            pages.fill(source / "bibliography.md", {"<!-- works -->": papers.listed()})
            reference.write(source / "reference")
            tutorials.place(source / "tutorials")
        except ValueError as wrong:
            print(wrong, file=sys.stderr)
            return 1
        settings = ["-c", str(ROOT / "docs"), "-d", str(source / ".doctrees")]
        code = build_main(["-W", "--keep-going", "-q", *settings, str(source), str(out)])
    faults = [] if code else [*check.faults(out)]
    for fault in faults:
        print(fault, file=sys.stderr)
    if not code and not faults:
        print(f"{out / 'index.html'}, in {time.monotonic() - began:.0f} s")
    return code or int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
