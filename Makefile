# Everything a newcomer needs: `make repro`, then `make test`. The environment lives in .venv and in nothing else.
PYTHON ?= python3
BIN := .venv/bin
# For Hydra, which reads what follows -S, a path with blanks or letters beyond ASCII needs quotes.
MINE := $(if $(WORDS),-S 'words="$(WORDS)"')
# A process for each processor, up to eight, with one thread in each. WITH: more options.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8 $(WITH)

# What a quick run does less of.
QUICK := quick=true bootstrap.resamples=100 nulls.draws=20 nulls.permutations=200 intervene.layers=3 \
	moments.tokens=2048 moments.context=256 perplexity.context=256 perplexity.max_tokens=1024 \
	reconstruct.components=[64,all] reconstruct.bands=2 reconstruct.layers=3 reconstruct.windows=2 cluster.k=[32] \
	rivals.methods=[int_column,layer_subspace_score_6bit] rivals.bits=[4,8]

.DEFAULT_GOAL := help
.PHONY: help setup repro meaning heads quick back report test coverage lint audit bench clean elsewhere

help:  ## list what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: .venv/ready $(if $(RAY),.venv/ray)  ## make .venv with the pinned dependencies (RAY=1: with Ray, for engine.kind=ray)

repro: .venv/ready  ## run the whole pipeline (what is up to date is not run again) and print what it found
	$(BIN)/dvc repro
	$(BIN)/permeation summary

meaning: .venv/ready  ## the meaning axis alone, with words of your own: make meaning WORDS=mine.yaml
	$(BIN)/dvc exp run $(MINE) report_meaning
	$(BIN)/permeation summary

heads: .venv/ready  ## which heads bring the sense, and what compression does to it: not in `make repro`, minutes more
	$(BIN)/dvc repro heads/dvc.yaml
	$(BIN)/permeation summary

quick: .venv/ready  ## the whole pipeline on little text, as the experiment `quick`; what is committed stays as it is
	$(BIN)/dvc exp run --temp --force --name quick $(foreach setting,$(QUICK),-S '$(setting)')
	$(BIN)/permeation summary quick

back: .venv/ready  ## back to the committed parameters; results that were computed here before are not computed again
	git checkout HEAD -- params.yaml metrics plots
	$(BIN)/dvc repro

report: .venv/ready  ## write report.html, the page of the last run, from metrics/ and plots/
	$(BIN)/permeation page

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

bench: .venv/ready  ## time the scorer against transformers; writes bench/results.json
	$(BIN)/python -m bench

clean:  ## remove the environment (results and caches stay)
	rm -rf .venv

# .venv is made again if the checkout was moved. A .venv that is a link is taken as it is.
ifeq ($(shell test -L .venv && echo linked),linked)
.venv/ready: ;
else
ifneq ($(shell cat .venv/ready 2>/dev/null),$(CURDIR))
.venv/ready: elsewhere
endif
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make $(MAKECMDGOALS) PYTHON=python3.12")'
	@echo "Making .venv from the $$(grep -c == requirements.lock) packages in requirements.lock, the largest of them PyTorch"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "$$(du -sh .venv | cut -f1) in .venv; . .venv/bin/activate puts dvc, permeation and python on PATH"
	@echo '$(CURDIR)' > $@
endif
elsewhere:

.venv/ray: requirements-ray.lock .venv/ready
	@$(BIN)/pip install --quiet --no-deps --no-compile --requirement requirements-ray.lock
	@touch .venv/ray
