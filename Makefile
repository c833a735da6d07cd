# Needs Python 3.11 or newer, git and make; everything else goes into .venv and .demo.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(CURDIR)/.demo
DAY ?= 2013-01-01

.PHONY: help install demo test lint types unit format clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[parquet,zstd,testing]" --group dev
	touch $@

install: $(VENV)/.installed  ## the provider and its development tools, in .venv

demo: install  ## ingest, wait for and export a day of real departures (DAY=2013-03-10), through Airflow
	@BIN=$(CURDIR)/$(BIN) DEMO=$(DEMO) DAY=$(DAY) sh dags_examples/demo.sh

test: lint types unit  ## everything that continuous integration runs

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/pytest

format: install  ## mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and what the demo left
	rm -rf $(VENV) .venv-* $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
