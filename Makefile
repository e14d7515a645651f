# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-long lint claims bench docs clean

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
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Long runs on a real PostgreSQL server, kills, and measured memory: two minutes.
test-long: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m opt_in

claims: setup
	$(BIN)/python -m benchmarks.quickstart --json

bench: setup
	$(BIN)/python -m benchmarks.peers
	for name in step_short step_long step_multiturn sample memory overhead scaling gateway_http es_memory align store; do \
		$(BIN)/python -m benchmarks.$$name --json || exit 1; done

docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	$(BIN)/zensical build

clean:
	rm -rf $(VENV) runs build dist site
