"""`python -m compress.search` is `python -m compress.search.main`."""

from compress.search.main import main
from groundwork.entry import run_main

run_main(main)
