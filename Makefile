# make quickstart   a winning ticket, from nothing to a report
# make cpu          fast convolutions on the CPU (oneDNN; needs a C++ compiler)
# make test         the whole test suite
# make docs         the site, into build/site; make tutorials runs what it shows the outputs of
# make check        formatter, linter, types, imports, then the tests
# make newest       the tests with the newest release of every dependency
# Another interpreter: make PYTHON=python3.13 test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SPREAD := -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# Python is to keep what it compiles: tests start a hundred processes, which import the same files.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart cpu test docs tutorials lint check format newest clean

quickstart: $(VENV)/.installed
	$(BIN)/python -m lottery.main --config=configs/lottery/mnist1d.py --workdir=runs/mnist1d

cpu: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-cpu.txt
	$(BIN)/python -m groundwork.architectures.cpu.build

# Tests of convolutions run by oneDNN too where it can be had.
COMPILER := $(shell uname -sm | grep -q 'Linux x86_64' && command -v $${CXX:-g++})
test: $(VENV)/.installed-dev $(if $(COMPILER),$(VENV)/.built-cpu)
	$(BIN)/python -m pytest $(SPREAD)

$(VENV)/.built-cpu: $(wildcard groundwork/architectures/cpu/*.*) requirements-cpu.txt requirements.txt
	$(MAKE) cpu
	touch $@

docs: $(VENV)/.installed-docs
	PYTHONPATH=docs:. $(BIN)/python -m website

tutorials: $(VENV)/.installed-docs
	PYTHONPATH=docs:. $(BIN)/python -m website.tutorials

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

newest:
	$(PYTHON) -m venv --clear .venv-newest
	sed 's/==.*//' requirements-dev.txt requirements-docs.txt requirements-launch.txt requirements-search.txt requirements.txt | grep -v '^-r' > .venv-newest/newest.txt
	.venv-newest/bin/pip install --quiet --upgrade -r .venv-newest/newest.txt
	.venv-newest/bin/python -m pytest $(SPREAD)

clean:
	rm -rf .venv .venv-newest build .pytest_cache .mypy_cache .ruff_cache .hypothesis .jax_cache groundwork/architectures/cpu/build

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	  { echo "Python 3.11 to 3.14 is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# Tutorials use engines, and the reference imports what it documents.
$(VENV)/.installed-docs: requirements.txt requirements-deploy.txt requirements-docs.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-deploy.txt -r requirements-docs.txt
	touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: requirements.txt requirements-deploy.txt requirements-docs.txt requirements-launch.txt requirements-search.txt requirements-dev.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/.installed $(VENV)/.installed-docs
