# One command each; every one sets up what it needs first.
#   make run     the whole chain over the embedded newsroom      make test   checks, then the tests
#   make ui      Dagster and MLflow on loopback                  make check  format, lint, types, import law, dg
#   make setup   .venv from the pinned lock                      make clean  forget the runs (.momentrank)
#   make faults  break runs in many ways and compare what is left
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := run
.PHONY: run ui setup test check faults clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Only errors: a machine's own package mirrors can make pip print a warning a package.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

run: .venv/.ready
	$(BIN)/momentrank run projects/newsroom.toml

ui: .venv/.ready
	$(BIN)/momentrank ui projects/newsroom.toml

setup: .venv/.ready

# A test file stays on one of up to four processes, each with one thread.
test: check
	OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

check: export DAGSTER_DISABLE_TELEMETRY := 1
check: .venv/.ready
	@echo "format, lint, types, import law, definitions"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dg check toml
	$(BIN)/dg check defs

faults: .venv/.ready
	$(BIN)/python tests/faults/campaign.py
	$(BIN)/python tests/faults/replay.py

clean:
	rm -rf .momentrank build .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

# torch goes first and from its own line: the rest of the lock would else pull its CUDA packages.
# The build tool is pinned in the lock too, hence no build isolation.
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
