# `make help` lists the targets. Each one makes .venv first if it is missing.
PYTHON ?= python3
BIN := .venv/bin
# Written last, so that an environment whose making was cut off does not count as made.
READY := .venv/.ready
SPACE := search_spaces/noisy_digits.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help .venv demo test test-long check dashboard example-db bench docs site

help: ## show this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

.venv: $(READY) ## make the environment alone, from constraints.txt (PYTHON=python3.12 picks another Python)

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "schedsearch needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; exit 1; }
	@echo "making .venv: downloads and installation take a few minutes"
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[samplers,tasks,lightning,transformers,docs,postgresql,mysql,ray,test]'
	@touch $@

demo: export SCHEDSEARCH_STORAGE = sqlite:///studies.db
demo: $(READY) ## search, confirm, export, plot and train on real data: a few minutes on two cores
	$(BIN)/schedsearch start $(SPACE) --trials 200 --workers 2
	$(BIN)/schedsearch confirm noisy_digits
	$(BIN)/schedsearch export noisy_digits -o best.toml
	$(BIN)/schedsearch plot noisy_digits/best -o best.png
	$(BIN)/schedsearch train best.toml --no-reuse

test: $(READY) ## run the tests, but for the long ones, a process per core
	$(BIN)/pytest --numprocesses auto --dist loadgroup -m "not long"

test-long: $(READY) ## run the long tests: kills, grids with two workers, every compiled step
	$(BIN)/pytest --numprocesses auto --dist loadgroup -m long

check: $(READY) ## format, lint, types, import directions, doctests, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --quiet schedsearch
	$(BIN)/python docs/generate.py --check
	$(BIN)/sphinx-build --quiet --fail-on-warning docs site

docs: $(READY) ## write the generated parts of docs/ anew
	$(BIN)/python docs/generate.py

site: $(READY) ## build docs/ as a site in site/
	$(BIN)/sphinx-build --quiet --fail-on-warning docs site

dashboard: $(READY) ## show the studies of studies.db in a browser
	$(BIN)/schedsearch dashboard

example-db: $(READY) ## search noisy_digits anew and keep the study as studies.db.example
	$(BIN)/python -m tests.example_db

bench: $(READY) ## measure this machine and write docs/benchmarks.md: an hour or so
	$(BIN)/python -m benchmarks
