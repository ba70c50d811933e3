# Everything a person or CI does with this project. `make` alone lists it.
#
# The virtual environment .venv is made on first need and left alone until a lock or pyproject.toml changes;
# the stamp files inside it remember what was installed.

PYTHON ?= python3
LOCK_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-stamp
DEV_STAMP := $(VENV)/.dev-stamp
CHECKED := src tests bench
TYPES := $(BIN)/mypy $(CHECKED) && $(BIN)/lint-imports

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help run test coverage lint style types bench bench-import bench-scale bench-validation bench-dry-run bench-search soak demo lock proto dev clean

# A virtual environment is full of absolute paths: one that was moved or copied here is made anew.
ifneq ($(shell cat $(RUN_STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(RUN_STAMP)
endif

help: ## list what can be done (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# `exec` leaves no shell between make and the server, so a signal to the process group, or to make alone
# (which hands SIGTERM on), reaches the server; make then waits for it to end.
run: $(RUN_STAMP) ## set up once, then serve on http://127.0.0.1:8080
	@exec $(BIN)/schema-user serve

# The tests wait for disks and for processes more than they compute: four at once keep two cores busy. Each of the four
# reads all tests, so what one has compiled is kept for the others, also where Python is told to write no bytecode. Types
# are looked at meanwhile, on one core, and what is said of them comes last.
test: $(DEV_STAMP) style ## lint, and every test but the soak
	@mkdir -p .pytest_cache; { $(TYPES); } >.pytest_cache/types.txt 2>&1 & types=$$!; \
	  PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder; tests=$$?; \
	  wait $$types; types=$$?; cat .pytest_cache/types.txt; exit $$((tests || types))

coverage: $(DEV_STAMP) ## the same tests once more, with the branches that they reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: style types ## the next two

style: $(DEV_STAMP) ## rules of style, and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP) ## types, and the direction of imports
	$(TYPES)

bench: $(DEV_STAMP) ## measure updates and reads against the driver's own loop, with the goals
	$(BIN)/python -m bench.report

bench-validation: $(DEV_STAMP) ## measure the validators against one another
	$(BIN)/python -m bench.validation

bench-import: $(DEV_STAMP) ## measure the import of users against the raw driver
	$(BIN)/python -m bench.imports

bench-scale: $(DEV_STAMP) ## measure updates among millions of users and thousands of schemas
	$(BIN)/python -m bench.scale

bench-search: $(DEV_STAMP) ## measure searches over the data of a million users
	$(BIN)/python -m bench.search

bench-dry-run: $(DEV_STAMP) ## measure dry runs, and what they cost the updates meanwhile
	$(BIN)/python -m bench.dry_run

soak: $(DEV_STAMP) ## the tests that take long on purpose
	$(BIN)/python -m pytest tests -m soak --timeout=0

demo: $(DEV_STAMP) ## thousands of updates of one user by 32 clients at once, on a server started for it
	$(BIN)/python -m bench.demo

# The widest lock comes first and bounds the others: what runs is what was tested, version by version.
# LOCK_FLAGS=--upgrade takes newer versions; without it the pins of today stay where they still fit.
LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-config --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_FLAGS)

lock: $(DEV_STAMP) ## write the requirements anew from pyproject.toml
	@mkdir -p requirements
	$(LOCK) pyproject.toml --all-extras --group build --group dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml --all-extras --group build --constraints requirements/dev.txt --output-file requirements/run.txt
	$(LOCK) pyproject.toml --extra motor --extra python-validator --constraints requirements/dev.txt --output-file requirements/server.txt
	$(LOCK) --group build --constraints requirements/dev.txt --output-file requirements/build.txt

proto: $(DEV_STAMP) ## write the messages of the RPC services anew from proto/
	$(BIN)/python -P tests/wire/generate_messages.py src/schema_user/rpc/generated

dev: $(DEV_STAMP) ## set up .venv with everything the tests need

clean: ## remove .venv, caches and coverage data (the data in var/ stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov dist
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_STAMP): requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "schema-user needs Python 3.11 or newer: install it, or name the one to use, as in: make run PYTHON=python3.13" >&2; exit 1; }
	@{ [ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] && $(BIN)/python -m pip --version >/dev/null 2>&1; } || \
	  { echo "Making $(VENV) ..."; $(PYTHON) -m venv --clear $(VENV); } || { \
	  echo "Python's venv module is missing: install it (Debian and Ubuntu: apt-get install python3-venv) and try again." >&2; exit 1; }
	@echo "Installing what the service needs (about 250 MB the first time, a database server among it) ..."
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/run.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@$(BIN)/python -m compileall -q src # also where Python is told to write no bytecode: a server starts sooner
	@printf '%s\n' "$(CURDIR)" > $@

$(DEV_STAMP): $(RUN_STAMP) requirements/dev.txt
	@echo "Installing what the tests and checks need ..."
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/dev.txt
	@touch $@
