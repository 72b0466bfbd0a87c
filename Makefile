# Every target sets up its own virtual environment first; `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo test e2e vm prove lint format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ttfleet needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "setting up $(VENV) (once, about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

venv: $(READY) ## the virtual environment alone, with the command ttfleet in it

demo: $(READY) ## one commit upgrades a fleet: real control plane, hollow nodes (30 to 90 s)
	$(BIN)/ttfleet demo

test: $(READY) ## fast tests (under 3 minutes on 2 cores)
	$(BIN)/pytest -n 2 -m "not e2e and not vm"

e2e: $(READY) ## tests that need a real control plane
	$(BIN)/pytest -n 2 --dist loadfile -m e2e

vm: ## tests that need a virtual machine
	@echo "make vm: not built yet (the builder on a real kernel arrives with its own issue)"

prove: $(READY) ## exhaustive search over the operator's own decisions (PROVE=--quick: the small configurations)
	$(BIN)/python -m reconciler.simulation.prove $(PROVE)

lint: $(READY) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## side-by-side benchmarks (BENCH=tick: pairs whose names begin so)
	$(BIN)/python bench/run.py $(BENCH)

lock: $(READY) ## renew requirements.lock from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra sandbox --group dev pyproject.toml -o requirements.lock

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
