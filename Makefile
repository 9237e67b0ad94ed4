# Every target installs what it needs: uv if it is missing (into .uv), then the locked environment (into .venv).
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
# Test files are shared among as many processes as there are processors.
WORKERS := -n auto --dist loadfile

# The site is built by mkdocs 1, which announces version 2 at every start.
DOCS := NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

.DEFAULT_GOAL := help
.PHONY: help install demo test zoo test-all coverage fuzz lint docs validate oracle bench bench-size bench-compare train

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

install: $(filter .uv/bin/uv,$(UV))  ## the locked environment, with torch and Lava, in .venv
	$(UV) sync --frozen --all-extras $(KEEP) --compile-bytecode

demo: install  ## the shipped model: compile, run on Lava, verify, price on every chip
	$(RUN) stas-export demo

test: install  ## the tests that a change must pass, in a few minutes; PYTEST_ADDOPTS adds options
	OMP_NUM_THREADS=1 $(RUN) pytest $(WORKERS)

zoo: install  ## libraries whose networks are imported in slow tests, in .venv too
	$(UV) sync --frozen --all-extras --group zoo --compile-bytecode

test-all: zoo oracle  ## also the slow tests, and the shipped model on every supported Python
	OMP_NUM_THREADS=1 $(RUN) pytest $(WORKERS) -m "slow or not slow"

coverage: export PYTEST_ADDOPTS := --cov --cov-report=term $(PYTEST_ADDOPTS)
coverage: test  ## as test, and which lines and branches of the package the tests reach

fuzz: install  ## 100,000 damaged files for every reader, or READERS="bundle csv"; goes on where it stopped
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(RUN) python -m fuzz $(READERS) --count 100000 --state .fuzz

lint: install  ## style, format, complexity, types, the order of imports, and every link of the docs
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports
	$(DOCS) --quiet

docs: install  ## the docs site, in build/site
	$(DOCS)

validate: install oracle  ## estimates against published measurements, and against SANA-FE
	$(RUN) python examples/validate.py
	PYTHONPATH=tests $(RUN) python -m sanafe_oracle .oracle/bin/python

oracle: $(filter .uv/bin/uv,$(UV))  ## SANA-FE, an outside program to check against, in .oracle
	UV_PROJECT_ENVIRONMENT=.oracle $(UV) sync --frozen --only-group oracle

bench: KEEP := --inexact  # SpikingJelly, which make zoo installed, is measured too
bench: install  ## how fast each backend runs here, kept in bench.json; ARGS="--quick --output old.json"
	$(RUN) python examples/bench.py --output bench.json $(ARGS)

bench-size: install  ## time and memory of networks of published size; ARGS=--scaling: how they grow
	$(RUN) python examples/at_size.py $(ARGS)

bench-compare: install  ## two files of bench side by side: A=old.json B=new.json
	$(RUN) python examples/bench_compare.py $(A) $(B)

train: install  ## train the shipped models anew
	$(RUN) bash examples/train_shipped.sh
