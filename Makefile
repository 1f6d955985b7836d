# Everything a developer or a first-time user types. Each target stands on `setup`, which is instant when done.
#   make setup | demo | test | lint | format | bench | crash | fuzz | reproduce | wheel-check | test-minimum | audit | clean
PYTHON ?= python3
# Where files are made, and removed by clean: from the command line only, as the environment may use these names otherwise
VENV   := .venv
OUT    := runs
ifneq ($(origin VENV),command line)
override VENV := .venv
endif
ifneq ($(origin OUT),command line)
override OUT := runs
endif
# Test workers; each keeps to one thread, so this is also the number of cores used.
JOBS   ?= 2

# $(call quoted,TEXT): TEXT as one word of the shell
quoted = '$(subst ','\'',$(1))'
problem := $(shell bash scripts/made.sh odd $(call quoted,$(VENV)))
$(if $(problem),$(error VENV: $(problem)))

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.seqres-ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The pipeline file is also usable without this Makefile; here it gets the command of this environment.
SEQRES_ABS := $(abspath $(BIN)/seqres)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench crash fuzz reproduce wheel-check test-minimum audit clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP) ## create .venv with seqres and the developer tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "seqres needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1); try: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || { $(PYTHON) -m venv $(VENV) && touch $(VENV)/.seqres-made; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m pip check
	@touch $@
	@echo "ready: $(BIN)/seqres --help"

demo: $(STAMP) ## the whole pipeline on small made-up pictures; prints scores and a picture page
	MAKE="$(MAKE)" SEQRES=$(call quoted,$(SEQRES_ABS)) bash scripts/demo.sh $(call quoted,$(OUT)/demo) $(DEMO_ARGS)

reproduce: $(STAMP) ## the same at the standard scale, one seed
	MAKE="$(MAKE)" SEQRES=$(call quoted,$(SEQRES_ABS)) bash scripts/demo.sh $(call quoted,$(OUT)/standard) SCALE=standard

test: $(STAMP) ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(STAMP) ## formatting, static checks, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## timings, as ratios measured within one run; one table and JSON in runs/bench
	OMP_NUM_THREADS=1 $(BIN)/python scripts/bench.py --out $(call quoted,$(OUT)/bench) $(BENCH_ARGS)

crash: $(STAMP) ## kill every command at its file operations and refuse them; nothing may be lost (an hour)
	$(BIN)/python -m tests.crash $(CRASH_ARGS)

fuzz: $(STAMP) ## damage files of every kind and read them; success or a clear error, nothing else (hours; READER= CASES= SEED=)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(READER) $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED)) --jobs $(JOBS)

wheel-check: $(STAMP) ## build the wheel, install it in a clean environment, use it far from here
	bash scripts/wheel_check.sh $(BIN)/python

test-minimum: $(STAMP) ## the tests with the lowest versions that pyproject.toml allows
	bash scripts/test_minimum.sh $(BIN)/python $(PYTEST_ARGS)

audit: $(STAMP) ## known vulnerabilities of the packages in constraints.txt (needs PyPI)
	bash scripts/audit.sh $(BIN)/python

clean: ## remove the environment, caches, and what make made in runs/; nothing else
	@bash scripts/made.sh $(if $(filter command,$(origin OUT)),clean-given,clean-below) $(call quoted,$(OUT))
	@bash scripts/made.sh clean-venv $(VENV)
	rm -rf seqres.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(wildcard seqres_cli stages tests scripts) -name __pycache__ -type d -prune -exec rm -rf {} +
