# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What is imported often, on all cores; files of packages that are no Python of this version are passed over.
COMPILE := $(BIN)/python -W ignore -m compileall -q -q -j 0 -x '/transformers/models/|/diffusers/|/tests/' $(VENV)/lib || true

# Where Python is told to keep no bytecode, every process that a test starts would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test test-long test-cluster test-vllm lint claims bench docs clean

setup: $(STAMP)

# pip, not another installer: constraints.txt pins the CPU build of PyTorch. It would compile every module, on one core.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	$(COMPILE)
	touch $(STAMP)

demo: setup
	$(BIN)/askesis train recipes/quickstart.toml

lint: setup
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

# Every claim at its smallest scale, kills by the dozen, PostgreSQL at length, measured memory: some minutes.
test-long: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m opt_in

# Most things under kill -9, twenty times each; Ray, real PostgreSQL (apt-get install postgresql, or those tests are
# skipped and say so), then the real vLLM. Ray and vLLM are installed for it. Three processes, a file at a time.
test-cluster: setup
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,ray]'
	$(COMPILE)
	OMP_NUM_THREADS=1 ASKESIS_TEST_CLUSTER=1 ASKESIS_TEST_KILLS=20 $(BIN)/python -m pytest -rs --durations=40 \
		-n 3 --dist loadfile --no-loadscope-reorder -m 'opt_in or not opt_in' \
		-k 'not every_algorithm_in and not any_number_of_micro' \
		tests/training/test_ray_rollouts.py tests/learners/ranks/test_learner.py tests/cluster/test_failures.py \
		tests/cluster/test_ray_command.py tests/training/test_ray_ranks.py tests/training/test_ray_pool.py \
		tests/training/test_asynchronous.py::test_killed_at_random_moments_nothing_is_lost_or_used_twice \
		tests/training/test_asynchronous.py::test_ranks_learn_from_the_same_schedule_and_one_may_be_lost \
		tests/store/test_postgres.py tests/training/test_records.py tests/store/test_copying.py \
		tests/training/test_ray_hosts.py tests/training/test_ray_link.py
	$(MAKE) test-vllm

# The real vLLM on this machine's CPU, in an environment of its own: about ten minutes.
test-vllm: setup
	$(BIN)/python -m benchmarks.peers vllm
	ASKESIS_VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest -s tests/cluster/test_vllm_real.py

claims: setup
	$(BIN)/python -m benchmarks.quickstart --json

bench: setup
	$(BIN)/python -m benchmarks.peers
	for name in step_short step_long step_multiturn search_rollout retrieval sample memory overhead scaling gateway_http es_memory es_population align store async_latency simulate_scale; do \
		$(BIN)/python -m benchmarks.$$name --json || exit 1; done

docs: setup
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt '.[docs]'
	$(BIN)/zensical build

clean:
	rm -rf $(VENV) runs build dist site
