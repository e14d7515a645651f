# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint claims bench docs clean

setup: $(STAMP)

# pip, not another installer: constraints.txt pins the CPU build of PyTorch.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/askesis train recipes/quickstart.toml

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	$(BIN)/python -m pytest

claims: setup
	$(BIN)/python -m pytest -m "slow"
	for seed in 0 1 2; do \
	  $(BIN)/askesis train recipes/quickstart.toml run.seed=$$seed --json || exit 1; \
	done

bench: setup
	@echo "no benchmark exists yet: see CHANGELOG.md" && exit 1

docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	$(BIN)/zensical build

clean:
	rm -rf $(VENV) runs build dist site
