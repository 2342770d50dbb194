# Everything one does with the project. Each target can be run again at any time; the first one installs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DAY ?=
FROM ?=
TO ?=
ASSETS ?=
SIZE ?= full
ONLY ?=
PORT ?= 3000

.PHONY: help install demo dev test lint materialize backfill bench docs screenshots flame clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## the virtual environment in ./.venv, with pinned versions

# Several makes may start at once: one installs, the others wait for it and find it done.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) tools/install.py $(VENV) pyproject.toml constraints.txt

demo: $(INSTALLED) ## one sample day through Dagster, then a look at what was written
	@$(BIN)/market-data demo

dev: $(INSTALLED) ## Dagster's UI on http://127.0.0.1:3000, or PORT=3001
	@$(BIN)/market-data dev --port $(PORT)

materialize: $(INSTALLED) ## one day: DAY=2024-08-08 [ASSETS=trades,ohlcv_1m]
	@[ -n "$(DAY)" ] || { echo "which day? make materialize DAY=2024-08-08 [ASSETS=trades,ohlcv_1m]"; exit 2; }
	@$(BIN)/market-data materialize "$(DAY)" --assets "$(ASSETS)"

backfill: $(INSTALLED) ## a range, both days included: FROM=2024-08-01 TO=2024-08-31 [ASSETS=…] [MISSING=1: what is missing]
	@[ -n "$(FROM)" ] && [ -n "$(TO)" ] || { echo "which days? make backfill FROM=2024-08-01 TO=2024-08-31 [ASSETS=…]"; exit 2; }
	@$(BIN)/market-data backfill "$(FROM)" "$(TO)" --assets "$(ASSETS)" $(if $(MISSING),--missing)

test: $(INSTALLED) ## all tests; those of the UI need Chromium, and are skipped without it
	@$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(INSTALLED) ## style, types and the floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(INSTALLED) ## the lake beside its peers: [SIZE=small|full] [ONLY=read-day,candles]; full renews docs/benchmarks.md
	@$(BIN)/python -m benchmarks.beside.environment .venv-bench benchmarks/constraints.txt
	@$(BIN)/python -m benchmarks.beside --size $(SIZE) --only "$(ONLY)" --json benchmarks/results/$(SIZE).json \
	  $(if $(filter full,$(SIZE)),$(if $(ONLY),,--docs))

docs: $(INSTALLED) ## docs/datasets.md, from the table of datasets
	@$(BIN)/python tools/datasets.py > docs/datasets.md

screenshots: $(INSTALLED) ## the docs' pictures of the UI, by the tests that drive it; needs Chromium
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -q market_data_pipeline_tests/ui

flame: $(INSTALLED) ## where the time of the two heaviest paths goes, as docs/images/flame-*.svg
	@$(BIN)/python -m benchmarks.beside.environment .venv-bench benchmarks/constraints.txt
	@$(BIN)/python -m benchmarks.beside.flame .venv-bench/bin/py-spy docs/images land candles

clean: ## removes the virtual environment and caches; the lake and Dagster's history stay
	rm -rf $(VENV) .venv-bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
