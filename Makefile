# Everything runs in .venv, which the first target makes; nothing else has to be set up.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check install
export RWF_TEST_SCALE

.PHONY: help check lint test test-long test-oldest demo bench bench-peers clean

help:
	@echo "make check      lint, types, and the unit tests that need no server (under a minute)"
	@echo "make test       lint, types, and the tests (some minutes)"
	@echo "make test T=... of these tests alone: a file, a folder, FILE::NAME, or '-k NAME'"
	@echo "make test-long  the long tests, or those of T; RWF_TEST_SCALE=slice for a short slice of each"
	@echo "make test-oldest  tests with the oldest version of each dependency that is allowed"
	@echo "make demo       workers, a daemon and an embedded server, each killed once"
	@echo "make bench      server and worker time, memory of a step; AGAINST=PATH for the ratio to another checkout"
	@echo "make bench-peers  install the peers that make bench runs beside ours: RQ, streaq, BullMQ (needs npm)"
	@echo "make clean      remove .venv, caches and demo-data"

lint: .venv/dev
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== what is generated is up to date"
	@$(BIN)/python tools/blocking.py --check
	@$(BIN)/python -m rwf.protocol.generate --check
	@$(BIN)/python tools/states.py --check
	@$(BIN)/python tools/functions.py --check
	@echo "== luacheck"
	@$(BIN)/python tools/lint_lua.py
	@echo "== actionlint"
	@PATH="$(BIN):$$PATH"; if command -v actionlint >/dev/null; then actionlint; else \
	  echo "SKIPPED: actionlint is missing ($(BIN)/pip install -e '.[actions]' downloads it from GitHub)"; fi

check: lint
	@echo "== pytest, unit tests without servers"
	@$(BIN)/pytest -q -n 2 -m "not long and not server" tests/unit

ifdef T
test: .venv/dev
	@$(BIN)/pytest -q -n 2 -m "not long" $(T)
else
test: lint
	@echo "== pytest"
	@$(BIN)/pytest -q -n 6 -m "not long"
endif

test-long: RWF_TEST_SCALE ?= long
test-long: .venv/dev
	@echo "== pytest, long tests ($(RWF_TEST_SCALE))"
	@$(BIN)/pytest -q -n 2 --timeout 7200 -m "long$(if $(filter slice,$(RWF_TEST_SCALE)), and not whole)" $(T)

# The newest versions are those of make test, in a .venv that was just made.
test-oldest: .venv-oldest/dev
	@echo "== pytest, with the oldest dependencies"
	@.venv-oldest/bin/pytest -q -n 2 -m "not long" tests/contract tests/internals

.venv-oldest/dev: pyproject.toml tests/oldest.txt
	@echo "== installing the oldest dependencies into .venv-oldest"
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/pip --quiet --disable-pip-version-check install -c tests/oldest.txt -e '.[dev]'
	@touch $@

demo: .venv/embedded
	@$(BIN)/rwf demo

PEERS := .venv/peers
bench: export NODE_PATH := $(abspath $(PEERS)/node_modules)
bench: .venv/dev
	@$(BIN)/python -m tests.benchmarks.server_time $(if $(AGAINST),--against $(AGAINST))
	@$(BIN)/python -m tests.benchmarks.worker $(if $(AGAINST),--against $(AGAINST))
	@$(BIN)/python -m tests.benchmarks.sizes
	@$(BIN)/python -m tests.benchmarks.idle

bench-peers: .venv/dev
	@echo "== installing the peers into .venv"
	@$(PIP) rq streaq
	@npm install --silent --no-audit --no-fund --prefix $(PEERS) bullmq ioredis

clean:
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build demo-data
	find rwf tests -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/pip:
	@echo "== making .venv"
	@$(PYTHON) -m venv .venv

.venv/dev: pyproject.toml | .venv/bin/pip
	@echo "== installing rwf with its development tools into .venv"
	@$(PIP) -e '.[dev]'
	@touch $@ .venv/embedded

.venv/embedded: pyproject.toml | .venv/bin/pip
	@echo "== installing rwf with its embedded server and its console into .venv"
	@$(PIP) -e '.[embedded,console]'
	@touch $@
