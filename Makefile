# Tasks of this repository. CI runs `check` and `test` and adds nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 6
REPRISE_MODEL_SCHEDULES ?= 5000

# Every process of a test run would else compile again what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup dev test check types style bench soak format model chaos lock clean

## help: list these targets
help:
	@sed -n 's/^## \([a-z]*\): /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-8s %s\n", $$1, $$2 }'

## setup: make the virtual environment .venv from the lock; nothing else is touched
setup: $(VENV)/.installed

# The lock decides every version and every file by its hash, wherever pip finds it.
$(VENV)/.locked: requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# The backend comes from the lock too: without build isolation pip fetches nothing here.
$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

## dev: embedded Valkey, server and worker on this machine; prints the page's address
dev: setup
	$(BIN)/reprise dev

# What talks to Redis itself: on another server than the embedded one it might be answered differently.
ON_REDIS := tests/model tests/integration/test_streams_*.py \
	$(addprefix tests/integration/test_fanout_,bell.py live.py losses.py) \
	tests/integration/test_worker_redis.py tests/integration/test_worker_retries.py tests/integration/test_worker_queues.py

## test: every test; what talks to Redis once more on redis-server where there is one
test: setup
	@status=0; \
	$(BIN)/pytest -n $(JOBS) --dist worksteal || status=$$?; \
	if command -v redis-server >/dev/null; then \
		REPRISE_TEST_REDIS=redis-server REPRISE_MODEL_SCHEDULES=100 $(BIN)/pytest -n 4 --dist worksteal $(ON_REDIS) || status=$$?; \
	else \
		echo "There is no redis-server here, so the tests ran on the embedded Valkey only."; \
	fi; \
	exit $$status

## check: lint, format, types and import rules
check: setup
	@$(MAKE) --no-print-directory --jobs=2 types style

# One process each: the types take a minute of one processor.
types:
	$(BIN)/pyright

style:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

$(VENV)/.bench: $(VENV)/.installed requirements/bench.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

## bench: measure Reprise, Nchan and the tutorial design here, into docs/benchmarks.* (BENCH_ARGS="--only b")
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(or $(BENCH_ARGS),--output docs)

## soak: 30 minutes of load, and whether anything grows (SOAK_ARGS="--minutes 2")
soak: setup
	$(BIN)/python -m benchmarks.soak $(SOAK_ARGS)

## format: rewrite the code as ruff wants it
format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

## model: the long run of the protocol's state machine (REPRISE_MODEL_SCHEDULES=5000)
model: setup
	REPRISE_MODEL_SCHEDULES=$(REPRISE_MODEL_SCHEDULES) $(BIN)/pytest -n $(JOBS) --timeout=0 tests/model

## chaos: kill, freeze and cut everything while readers follow (CHAOS_ARGS="--minutes 10"; CHAOS_ARGS=--help)
chaos: setup
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

# Only the public index is asked, so that the hashes are those of the published files, for every Python and
# platform. No address is written down: pip asks whichever index it is set up for and compares hashes.
COMPILE := PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= .venv-lock/bin/pip-compile \
	--quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-options \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(LOCK_ARGS)

## lock: compile requirements/*.txt again (LOCK_ARGS=--upgrade for newer versions)
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --disable-pip-version-check pip-tools==7.6.2
	$(COMPILE) -o requirements/runtime.txt pyproject.toml requirements/old-python.in
	$(COMPILE) -o requirements/dev.txt -c requirements/runtime.txt --extra dev \
		pyproject.toml requirements/old-python.in requirements/dev.in
	$(COMPILE) -o requirements/build.txt -c requirements/dev.txt requirements/build.in
	$(COMPILE) -o requirements/bench.txt -c requirements/dev.txt requirements/bench.in

## clean: remove the virtual environment, caches and what `reprise dev` kept
clean:
	rm -rf $(VENV) .venv-lock .reprise .hypothesis .pytest_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
