# Two commands do everything: `make run` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# A file's tests stay together, in order. On two cores the third process runs while others wait.
PARALLEL ?= -n 3 --dist loadfile
FUZZ_SECONDS ?= 10
SEEDS ?= 1000
BASE ?= HEAD~1
# What .venv was made from.
LOCKED := $(if $(wildcard $(VENV)/.test),test,run)

.PHONY: run compiled test test-long sim sim-mutations fuzz lint format demo bench bench-quick bench-guard deb lock sbom audit audit-online clean

run: $(VENV)/.run
	$(BIN)/omaha-mirror serve $(ARGS)

demo: $(VENV)/.run
	$(BIN)/omaha-mirror demo

# Tests start hundreds of processes of the mirror; none is to compile it again.
compiled: $(VENV)/.test
	@$(BIN)/python -m compileall -q omaha_mirror

test: compiled
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-long: compiled
	$(BIN)/python -m pytest -m long $(PARALLEL) $(ARGS)

sim: $(VENV)/.test
	$(BIN)/python -m tests.sim --seeds $(SEEDS) $(ARGS)

sim-mutations: compiled
	$(BIN)/python -m tests.sim.mutations $(ARGS)

fuzz: $(VENV)/.test
	set -e; for name in payload manifest request response bundle; do \
	  $(BIN)/python -m tests.fuzz $$name build/fuzz/$$name -max_total_time=$(FUZZ_SECONDS); done

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.test
	$(BIN)/python -m benchmarks --quick $(ARGS)

# What a check, a hit and a fill cost, against another commit.
bench-guard: $(VENV)/.test
	$(BIN)/python -m benchmarks.guard $(BASE)

deb:
	packaging/build-deb

lock: | $(VENV)-tools
	UV=$(VENV)-tools/bin/uv packaging/lock

sbom: $(VENV)/.run
	$(BIN)/python -I packaging/supply.py sbom >sbom.json

audit: $(VENV)/.$(LOCKED)
	$(BIN)/python -I packaging/supply.py audit requirements-$(LOCKED).txt

audit-online: | $(VENV)-tools
	$(VENV)-tools/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements-test.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "omaha-mirror needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends python3-venv; \
	  else echo "python3-venv is missing: sudo apt-get install python3-venv" >&2; exit 1; fi; }
	$(PYTHON) -m venv $(VENV)

# Every dependency comes as it is locked, and what is locked builds the mirror.
define install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
endef

$(VENV)/.run: requirements-run.txt pyproject.toml | $(BIN)/python
	$(install)
	@touch $@

$(VENV)/.test: requirements-test.txt pyproject.toml | $(BIN)/python
	$(install)
	@touch $@ $(VENV)/.run

$(VENV)-tools: | $(BIN)/python
	$(BIN)/python -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check uv pip-audit || { rm -rf $@; exit 1; }

clean:
	rm -rf $(VENV) $(VENV)-tools sbom.json build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
