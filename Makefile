# `make help` lists the targets. Each one creates .venv first if it is missing.
PYTHON ?= python3
BIN := .venv/bin
# Created last, so that an interrupted installation is not taken for a finished one.
READY := .venv/.ready
SPACE := search_spaces/noisy_digits.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help .venv demo test test-long check dashboard example-db bench docs site dist

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

.venv: $(READY) ## create only the environment, from constraints.txt (PYTHON=python3.12 selects a Python)

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "schedsearch needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; exit 1; }
	@echo "creating .venv: the download and installation take a few minutes"
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[samplers,tasks,lightning,transformers,docs,postgresql,mysql,ray,test]'
	@touch $@

demo: export SCHEDSEARCH_STORAGE = sqlite:///studies.db
demo: $(READY) ## search, confirm, explain, export, plot and train on real data: 2 to 4 minutes on two cores, and the installation
	$(BIN)/schedsearch start $(SPACE) --trials 200 --workers 2
	$(BIN)/schedsearch confirm noisy_digits
	$(BIN)/schedsearch explain noisy_digits
	$(BIN)/schedsearch export noisy_digits -o best.toml
	$(BIN)/schedsearch plot noisy_digits/best -o best.png
	$(BIN)/schedsearch train best.toml -o model.safetensors --no-reuse

test: $(READY) ## run the tests except the long ones, in one process per core
	$(BIN)/pytest --numprocesses auto --dist loadgroup -m "not long"

test-long: $(READY) ## run the long tests: killed workers, grids with two workers, every compiled step
	$(BIN)/pytest --numprocesses auto --dist loadgroup -m long

check: $(READY) ## check format, lint, types, import directions, doctests and documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --quiet schedsearch
	$(BIN)/python docs/generate.py --check
	$(BIN)/sphinx-build --quiet --fail-on-warning docs site

docs: $(READY) ## update the generated parts of docs/
	$(BIN)/python docs/generate.py

site: $(READY) ## build the website in site/ from docs/
	$(BIN)/sphinx-build --quiet --fail-on-warning docs site

dashboard: $(READY) ## show the studies of studies.db in a browser
	$(BIN)/schedsearch dashboard

example-db: $(READY) ## search noisy_digits again and store the study as studies.db.example
	$(BIN)/python -m tests.example_db

bench: $(READY) ## run all benchmarks and write docs/benchmarks.md: about an hour
	$(BIN)/python -m benchmarks

dist: $(READY) ## build the sdist, and from it the wheel, of the last commit in dist/
	@rm -rf build dist
	@mkdir -p build/sources
	git archive HEAD | tar --extract --directory build/sources
	$(BIN)/python -m build --no-isolation --outdir dist build/sources
