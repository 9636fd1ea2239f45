# The front door. `make` alone lists what can be done; `make reproduce` and `make test` need nothing
# prepared but Python 3.11 to 3.14 and make. A C++ compiler makes training faster. On
# Python 3.14 they need a C compiler and Python's headers.

# Where the environment lives, and which Python it is made from.
VENV ?= .venv
PYTHON ?= python3
# laptop: recorded weights and the embedded images. paper: more images and longer training.
PROFILE ?= laptop
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
# One worker more than cores, since workers wait for kernels, browsers and compilers. All tests of a
# file go to one worker, since they share what takes long to make. Files come in the order of their
# names. Sorted by number of tests, all workers would begin with the scan and wait for its compiler.
WORKERS = --numprocesses $(shell expr $(CORES) + 1) --maxprocesses 8 --dist loadfile \
	--no-loadscope-reorder

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SNAKEMAKE = $(BIN)/snakemake --snakefile workflow/Snakefile --workflow-profile \
	workflow/profiles/default --cores $(CORES) --config profile=$(PROFILE) --
export PYTHONUNBUFFERED := 1
# Many containers forbid Python to keep the bytecode that it compiles. Each program, the kernel of each
# chapter among them, would then compile all of PyTorch again, which takes longer than most tests.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help venv reproduce check test test-slow notebooks lab chapters book sphinx lint \
	lock benchmarks ablation clean

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PROFILE=paper runs the notebooks on more images, for longer (now: $(PROFILE));"
	@echo "  PYTHON=python3.12 chooses the Python of a new $(VENV)."

$(STAMP): pyproject.toml requirements.lock
	@python=$(BIN)/python; [ -x $$python ] || python=$(PYTHON); \
	  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "nvp needs Python 3.11 to 3.14; name one with: make PYTHON=python3.12"; exit 1; }; \
	  $$python -c 'import os, sys, sysconfig; sys.exit(sys.version_info >= (3, 14) and not \
	  os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
	  { echo "on Python 3.14 pip compiles a library, which needs Python's headers: on Debian and" \
	    "Ubuntu apt install python3.14-dev, or make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv $(VENV) || \
	  { echo "python -m venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@# The pip that comes with an older Python takes twice as long.
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint requirements.lock \
	  --editable '.[cli,import,book,dev]'
	@touch $@

venv: $(STAMP) ## make the environment in .venv, once

reproduce: venv ## the main job: train, re-score, run the notebooks, build the book
	$(BIN)/nvp data list
	$(SNAKEMAKE) build/runs/quickstart/finished
	$(BIN)/nvp evaluate build/runs/quickstart
	$(BIN)/nvp verify
	$(BIN)/nvp tables
	$(SNAKEMAKE) book
	$(BIN)/nvp tables --print
	@echo "Open file://$(CURDIR)/build/book/index.html"

# Workers for all cores need no threads beside them. glibc keeps freed memory, in huge pages, as in
# nvp/training/allocator.py: that takes a twentieth off the chapters and a quarter off scoring.
check test: export OMP_NUM_THREADS := 1
check test: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592

check: lint ## the inner loop, about a minute: lint, and the tests that are quick
	$(BIN)/python -m pytest $(WORKERS) -m 'not (slow or nightly or book or browser)'

# In a new environment every worker would compile the same sources: one process does, beside lint.
test: venv ## all checks: lint, every test, recorded weights among them, every notebook
	@{ $(BIN)/python -c 'import torch._dynamo, torchvision.datasets'; \
	  $(BIN)/python -m pytest --collect-only -qq tests/ > /dev/null; } & \
	$(MAKE) --no-print-directory lint || { wait; exit 1; }; wait
	$(BIN)/python -m pytest $(WORKERS) --nbval --ignore-glob='*.failed.ipynb' tests/ notebooks/

test-slow: venv ## kill training, recording and table writing at random, and compare what is left
	$(BIN)/python -m pytest -m nightly tests/

notebooks: venv ## execute every notebook under build/, with PROFILE
	$(SNAKEMAKE) notebooks

lab: venv ## open the chapters in JupyterLab
	@$(BIN)/python -c 'import jupyterlab, jupyterlab_myst' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[lab]'
	@# It shows no picture of a notebook that it does not trust.
	$(BIN)/jupyter trust notebooks/*.ipynb > /dev/null
	$(BIN)/jupyter lab notebooks/

chapters: venv ## run the notebooks that changed and keep their outputs in notebooks/
	$(MAKE) $(patsubst %.py,%.ipynb,$(wildcard notebooks/[0-9]*.py))

notebooks/%.ipynb: notebooks/%.py | venv
	$(BIN)/python workflow/execute.py $< $@

book: venv ## build the book from executed notebooks
	$(SNAKEMAKE) book
	@echo "Open file://$(CURDIR)/build/book/index.html"

sphinx: venv ## build the book by Sphinx alone, from the recorded notebooks
	$(BIN)/python workflow/book.py --plain notebooks build/sphinx

lint: venv ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

lock: ## write requirements.lock from a fresh environment of Python 3.11
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "the lock is of the oldest Python: make lock PYTHON=python3.11"; exit 1; }
	rm -rf build/lock-venv && $(PYTHON) -m venv build/lock-venv
	build/lock-venv/bin/python -m pip install --quiet '.[cli,import,book,dev,lab,cluster,benchmarks]'
	@# Of torch and torchvision, whose builds differ, it has the ranges, and no libraries for GPUs.
	{ grep '^#' requirements.lock; sed -n 's/^ *"\(torch.*\)",$$/\1/p' pyproject.toml; \
	  build/lock-venv/bin/python -m pip freeze --exclude nvp | \
	  grep -vE '^(torch|torchvision|triton|nvidia-.*|cuda-.*)=='; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

benchmarks: venv ## time this project next to its peers
	@$(BIN)/python -c 'import normflows' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[benchmarks]'
	$(BIN)/python -m benchmarks.realnvp --setting all
	$(BIN)/python -m benchmarks.pixelrnn --setting all
	$(BIN)/python -m benchmarks.families
	$(BIN)/python -m benchmarks.coverage

ablation: venv ## make the runs that results/ablation.csv lacks
	$(BIN)/python workflow/ablation.py --jobs $(CORES)

clean: ## remove build/, with the runs trained there; .venv and data stay
	rm -rf build .snakemake .pytest_cache .mypy_cache .ruff_cache notebooks/.ruff_cache
