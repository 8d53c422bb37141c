# Every target sets up what it needs first.
#   make run     the whole chain over the embedded newsroom      make test   checks, then the tests
#   make ui      Dagster and MLflow on loopback                  make check  format, lint, types, import rules, words, dg
#   make setup   .venv from the pinned lock                      make clean  delete .momentrank and all caches
#   make faults  break runs, run them again, compare the tables
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := run
.PHONY: run ui setup test check faults clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Errors only: with package mirrors pip prints a warning for each package.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

run: .venv/.ready
	$(BIN)/momentrank run projects/newsroom.toml

ui: .venv/.ready
	$(BIN)/momentrank ui projects/newsroom.toml

setup: .venv/.ready

# Up to four single-threaded processes; the tests of one file stay together.
test: check
	OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

check: export DAGSTER_DISABLE_TELEMETRY := 1
check: .venv/.ready
	@echo "format, lint, types, import rules, retired words, definitions"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/retired_words.py
	$(BIN)/dg check toml
	$(BIN)/dg check defs

faults: .venv/.ready
	$(BIN)/python tests/faults/campaign.py
	$(BIN)/python tests/faults/replay.py

clean:
	rm -rf .momentrank build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

# torch is installed first, by itself: otherwise the rest of the lock pulls in its CUDA packages.
# No build isolation, because the lock pins the build tool too.
.venv/.ready: requirements.lock pyproject.toml
	@since=$$SECONDS; \
	case "$$PWD" in *[{}:$$]*) echo "Python cannot install packages under $$PWD: rename the folder without { } : and $$" >&2; exit 1;; esac; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	echo "setting up .venv with $(PYTHON): a minute or two, once"; \
	"$(PYTHON)" -m venv .venv; \
	echo "  torch"; $(PIP) torch==2.13.0; \
	echo "  $$(grep -c '^[^#]' requirements.lock) pinned packages"; $(PIP) -r requirements.lock; \
	echo "  momentrank itself"; $(PIP) --no-deps --no-build-isolation -e .; \
	$(BIN)/python -m pip check; \
	echo "  compiled kernels"; $(BIN)/python -m features.state; \
	touch $@; \
	echo "ready after $$((SECONDS - since)) s"
