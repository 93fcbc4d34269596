# Everything a newcomer needs: `make repro`, then `make test`. The environment lives in .venv and in nothing else.
PYTHON ?= python3
BIN := .venv/bin
# A process for each processor (up to eight: a process that has torch loaded takes half a gigabyte), one thread in each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8

.DEFAULT_GOAL := help
.PHONY: help setup repro report test coverage lint audit bench clean

help:  ## list what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: .venv/ready  ## make .venv with the pinned dependencies

repro: .venv/ready  ## run the whole pipeline (what is up to date is not run again) and print what it found
	$(BIN)/dvc repro
	$(BIN)/permeation summary

report: .venv/ready  ## write report.html, the page of the last run, from metrics/ and plots/
	$(BIN)/python -m permeation.report

test: .venv/ready  ## the tests
	$(PYTEST)

coverage: .venv/ready  ## the tests, and which lines of the package and the stages they leave out
	$(PYTEST) --cov

lint: .venv/ready  ## style, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip-audit ends with 1 for a finding and for a service out of reach alike; only a finding has a table.
audit: .venv/ready  ## look the pinned packages up among the known vulnerabilities (a finding fails)
	@if found=$$($(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip --progress-spinner off); \
	then echo "$$found"; \
	elif [ -n "$$found" ]; then echo "$$found"; exit 1; \
	else echo "not audited: pip-audit could not reach its service" >&2; fi

bench: .venv/ready  ## time the scorer against its rivals; writes bench/results.json
	$(BIN)/python -m bench

clean:  ## remove the environment (results and caches stay)
	rm -rf .venv

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@test ! -d .dvc || $(BIN)/python -m permeation.report.offline
	@touch $@
