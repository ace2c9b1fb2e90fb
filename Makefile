# Every target works on a fresh clone: it makes .venv first, and again only when the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## Make .venv with everything that is needed to use and develop vasculora.

demo: $(STAMP)  ## Draw a data set, fine-tune the bundled model on it, and show the results in runs/demo.
	$(BIN)/vasculora demo

test: $(STAMP)  ## Run the tests, but for the slow ones.
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)  ## Run the tests that run whole programs.
	$(PYTEST) -m slow

check: $(STAMP)  ## Check format, lint, types, and the layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
