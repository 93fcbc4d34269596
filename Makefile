# Everything a newcomer needs: `make repro`, then `make test`. The environment lives in .venv and in nothing else.
PYTHON ?= python3
BIN := .venv/bin
# A process for each processor (up to eight: a process that has torch loaded takes half a gigabyte), one thread in each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8

# What a quick run does less of.
QUICK := quick=true bootstrap.resamples=100 nulls.draws=20 controls.permutations=200 decode.permutations=200 \
	intervene.layers=3 moments.tokens=2048 moments.context=256 perplexity.context=256 perplexity.max_tokens=1024 \
	reconstruct.components=[64,all] cluster.k=[32] rivals.methods=[int_column,layer_subspace_score] rivals.bits=[4,8] \
	rivals.calibrate=[int_column] rivals.compared=2 \
	locate.bands=2 locate.layers=3 locate.windows=2

.DEFAULT_GOAL := help
.PHONY: help setup repro meaning heads quick back report test coverage lint audit bench clean elsewhere

help:  ## list what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: .venv/ready $(if $(RAY),.venv/ray)  ## make .venv with the pinned dependencies (RAY=1: with Ray, for engine.kind=ray)

repro: .venv/ready  ## run the whole pipeline (what is up to date is not run again) and print what it found
	$(BIN)/dvc repro
	$(BIN)/permeation summary

meaning: .venv/ready  ## the meaning axis alone, with words of your own: make meaning WORDS=mine.yaml
	$(BIN)/dvc exp run $(if $(WORDS),-S words=$(WORDS)) report_meaning
	$(BIN)/permeation summary
	$(BIN)/python -m permeation.report

heads: .venv/ready  ## which heads bring the sense, and what compression does to it: not in `make repro`, minutes more
	$(BIN)/dvc repro heads/dvc.yaml
	$(BIN)/permeation summary
	$(BIN)/python -m permeation.report

quick: .venv/ready  ## the whole pipeline on little text, as the experiment `quick`; what is committed stays as it is
	$(BIN)/dvc exp run --temp --force --name quick $(foreach setting,$(QUICK),-S '$(setting)')
	$(BIN)/permeation summary quick

back: .venv/ready  ## back to the committed parameters and their results, whatever was run since; recomputes nothing
	git checkout -q HEAD -- params.yaml dvc.lock heads metrics plots
	$(BIN)/dvc checkout --force

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

# An environment knows where it is: in a folder that was moved or copied it is made again. One that is linked from
# elsewhere is taken as it is.
ifeq ($(shell test -L .venv && echo linked),linked)
.venv/ready: ;
else
ifneq ($(shell cat .venv/ready 2>/dev/null),$(CURDIR))
.venv/ready: elsewhere
endif
.venv/ready: requirements.lock pyproject.toml tools/dvc
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make $(MAKECMDGOALS) PYTHON=python3.12")'
	@echo "Making .venv from the $$(grep -c == requirements.lock) packages in requirements.lock, the largest of them PyTorch"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(BIN)/dvc && cp tools/dvc $(BIN)/dvc
	@test ! -d .dvc || $(BIN)/python -m permeation.report.offline
	@echo "$$(du -sh .venv | cut -f1) in .venv"
	@echo '$(CURDIR)' > $@
endif
elsewhere:

.venv/ray: requirements-ray.lock .venv/ready
	@$(BIN)/pip install --quiet --no-deps --no-compile --requirement requirements-ray.lock
	@touch .venv/ray
