# `make demo` and `make test` each work on a machine that has only Python 3.11 or 3.12, pip and make.
# PYTHON chooses the interpreter: make test PYTHON=/opt/python3.12/bin/python3
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do command -v $$p >/dev/null && \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help test lint format demo experiments clean
help:
	@echo 'make demo         environment, data, a short training of experiment 1, its curves and pictures'
	@echo 'make experiments  both demo experiments, plotted and compared'
	@echo 'make test         lint and tests'
	@echo 'make format       format the code'
	@echo 'make clean        remove what make made (experiments/ and results/ stay)'

# BasicSR is built against the environment's own tools: its sdist would pull a second torch into a build environment.
$(READY): setup.py
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or 3.12 is needed (BasicSR 1.4.2 does not build on later ones):' \
	  'set PYTHON=/path/to/python3.12' >&2; exit 2; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools<82' wheel
	$(BIN)/python -m pip install --no-build-isolation --editable '.[test]'
	$(BIN)/python scripts/link_basicsr.py
	touch $@

test: lint
	$(BIN)/python -m pytest -m 'not gpu and not slow'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ---------------------------------------------------------------------------- demo
FACES := tests/data/faces
demo/val_lr.lmdb: $(READY)
	rm -rf demo
	$(BIN)/python scripts/demo_data.py $(FACES) demo

define train_and_test
	$(BIN)/python facesr_plugin/train.py -opt options/demo_$(1).yml
endef

demo: demo/val_lr.lmdb
	$(call train_and_test,exp1)
	$(BIN)/python basicsr/test.py -opt options/demo_test.yml
	$(BIN)/python scripts/demo_pictures.py demo_exp1

experiments: demo/val_lr.lmdb
	$(call train_and_test,exp1)
	$(call train_and_test,exp2)
	$(BIN)/python scripts/demo_pictures.py demo_exp1 demo_exp2

clean:
	rm -rf .venv build *.egg-info basicsr demo .pytest_cache .ruff_cache
