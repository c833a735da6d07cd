# Needs Python 3.11 or newer, git and make; everything else goes into .venv and .demo.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(CURDIR)/.demo
DAY ?= 2013-01-01

.PHONY: help install demo test test-matrix lint types unit docs browser faults watchers verify-proof acceptance release-check format clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[parquet,zstd,testing]" --group dev
	touch $@

install: $(VENV)/.installed  ## the provider and its development tools, in .venv

demo: install  ## ingest, wait for, export and verify a day of real departures (DAY=2013-03-10), through Airflow
	@BIN=$(CURDIR)/$(BIN) DEMO=$(DEMO) DAY=$(DAY) sh dags_examples/demo.sh

test: lint types unit  ## everything that continuous integration runs

lint: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pre-commit run --all-files

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/pytest -m "not browser" --numprocesses auto --dist loadfile --no-loadscope-reorder --cov

test-matrix: install  ## the tests on Airflow 3.0, 3.1, 3.2 and 3.3, in an environment for each
	$(BIN)/python -m tools.matrix

docs: install  ## the documentation, in docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

browser: install  ## Airflow's pages in a real browser; renews the screenshots of the documentation
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y chromium; } || \
		{ echo "Chromium is needed: install it, or set CHROMIUM to its path" >&2; test -n "$$CHROMIUM"; }
	SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/pytest tests/browser

faults: install  ## a marathon of faults: 1,000 exports and 1,000 ingests, none lost, twice, wrong, hung or unclear
	$(BIN)/python -m benchmarks.faults

watchers: install  ## stalls, kills and changes watchers in a real triggerer, 20 rounds of each: no event is lost
	WATCHER_ROUNDS=20 $(BIN)/pytest tests/integration/test_watchers_killed.py

verify-proof: install  ## 1,000 differences planted in what is billed, every one named; 20 clean runs, none reported
	VERIFY_PLANTS=1000 $(BIN)/pytest tests/integration/test_verify_planted.py

acceptance: install  ## this provider, polar-sdk, dlt and airbyte-cdk in every trap of Polar's API, as a table
	$(BIN)/python -m airflow_provider_polar.testing.acceptance --client ours --client polar-sdk \
		--client polar-sdk-metering --client dlt --client airbyte-cdk

release-check: install  ## build wheel and sdist, install them into an empty environment and use them
	$(BIN)/python -m pip install --quiet --group release
	RELEASE_CHECK=1 $(BIN)/pytest tests/release

format: install  ## fix what the linter can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and what the demo left
	rm -rf $(VENV) .venv-* $(DEMO) .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
