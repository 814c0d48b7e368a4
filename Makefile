# Ironcore Backup Solution. `make help` lists the targets.

PYTHON ?= $(shell for p in /usr/bin/python3 python3.11 python3; do command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= auto

.PHONY: help env demo test lint bench test-deps clean format

help:
	@echo "make env        the environment in .venv, with ironcore-backup and ironcore-backup-client on .venv/bin"
	@echo "make demo       start a server, back up, verify, restore, compare; then stop and clean up"
	@echo "make test       the test suite, a process a core (JOBS=1: one; TESTS=path: a part)"
	@echo "make lint       ruff, format, mypy, layer contracts, test pairing"
	@echo "make bench      compare with restic and borg, where they are installed (make test-deps); BENCH=--quick"
	@echo "make test-deps  system packages that some tests and the bench need (root, Debian)"

$(STAMP): pyproject.toml contrib/constraints.txt contrib/env.sh
	@PYTHON="$(PYTHON)" contrib/env.sh $(VENV)
	@touch $@

env: $(STAMP)
	@echo "environment ready: $(BIN)/ironcore-backup, $(BIN)/ironcore-backup-client"

demo: $(STAMP)
	@$(BIN)/python contrib/demo.py

test: $(STAMP)
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python contrib/lint/pairing.py
	$(BIN)/python contrib/lint/sizes.py

format: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python contrib/bench/run.py $(BENCH)

test-deps:
	contrib/test-deps.sh

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
