# Two commands do everything: `make run` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# A file's tests stay together, in order.
PARALLEL ?= -n 2 --dist loadfile

.PHONY: run test test-long lint format demo bench deb clean

run: $(VENV)/.run
	$(BIN)/omaha-mirror serve $(ARGS)

demo: $(VENV)/.run
	$(BIN)/omaha-mirror demo

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-long: $(VENV)/.test
	$(BIN)/python -m pytest -m long $(PARALLEL) $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.omaha_parse
	set -e; for name in hits herd ranges readers checks; do $(BIN)/python -m benchmarks.$$name; done

deb:
	packaging/build-deb

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "omaha-mirror needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -qy --no-install-recommends python3-venv; \
	  else echo "python3-venv is missing: sudo apt-get install python3-venv" >&2; exit 1; fi; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
