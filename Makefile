# The desk's two commands are `make demo` and `make test`. Both install what they need, from package registries by
# package name, into .venv and .cache of this folder; a second run installs nothing.
PYTHON ?= python3
ARGS   ?=

BIN     := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input
COMPILE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
           --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench nightly lock shots clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: .venv/desk ## rehearse the example day on http://localhost:8501; Ctrl-C ends it (ARGS="…" reach shareasm demo)
	@$(BIN)/shareasm demo $(ARGS)

test: lint servers ## format, lint, types, layers and every test (ARGS="…" reach pytest)
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/dev ## format, lint, types and layers alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: .venv/dev ## put the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev ## measure side by side with peers
	@$(BIN)/python -m benchmarks $(ARGS)

nightly: servers ## the long soaks
	$(BIN)/python -m pytest -m nightly $(ARGS)

lock: .venv/dev ## compile requirements/ from pyproject.toml (ARGS=--upgrade takes newer versions)
	$(COMPILE) --group build $(ARGS) --output-file requirements/desk.txt
	$(COMPILE) --group dev $(ARGS) --constraints requirements/desk.txt --output-file requirements/dev.txt

shots: servers ## take the screenshots of the documentation again
	@$(BIN)/python docs/shots.py $(ARGS)

clean: ## remove everything that was installed or cached here
	rm -rf .venv .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the tests need beside Python packages: the Bluesky server from npm, and Chromium.
.PHONY: servers
servers: .venv/dev
	@$(BIN)/python -m tests.servers

# Stamps: newer than their lock means installed.
.venv/desk: requirements/desk.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "error: the desk needs Python 3.11 or newer, and there is no $(PYTHON) here."; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: the desk needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name a newer one: make PYTHON=python3.12")'
	@echo "Installing the desk into .venv (about a minute, once)"
	@"$(PYTHON)" -m venv .venv
	@$(INSTALL) --require-hashes --requirement requirements/desk.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: requirements/dev.txt .venv/desk
	@echo "Installing the tools of the tests into .venv"
	@$(INSTALL) --require-hashes --requirement requirements/dev.txt
	@touch $@
