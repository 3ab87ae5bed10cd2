# Needs GNU make and Python 3.11 to 3.14 with venv and pip; everything else comes into .venv by itself.

# Another interpreter: make setup PYTHON=/path/to/python3.13
PYTHON ?=
# How many tests run side by side; 0: one after the other, in this process. More than there are cores, for many of them
# wait most of their time: for what is away, stopped or slow.
TEST_WORKERS ?= 4

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What draws the plots, and nothing else needs.
PLOTS_VENV := build/plots
PLOTS_STAMP := $(PLOTS_VENV)/.installed
PYTEST = $(BIN)/pytest -n $(TEST_WORKERS)

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
  --no-emit-index-url --no-annotate --custom-compile-command "make lock"

# Only these are measured: the core and the wire contracts must be covered whole, branch by branch.
COVERAGE_TESTS = $(wildcard tests/unit tests/property tests/contract)

# The exported schemas must be what the models say; `python -m schemas.export` writes them anew.
SCHEMA_DRIFT = from schemas.export import files; \
  stale = [path.name for path, text in files().items() if not path.is_file() or path.read_text() != text]; \
  raise SystemExit(f"run python -m schemas.export: {stale} differ" if stale else None)

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-slow test-all check format bench bench-plots bench-rivals dev-secrets lock clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything, .venv/bin/byok included; quick when nothing changed

$(STAMP): requirements.lock pyproject.toml sdk/pyproject.toml
	@python=$$(deploy/find-python $(PYTHON)) || exit 1; \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  echo "Making $(VENV) with $$python ..."; "$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing from requirements.lock ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e sdk
	@touch $@
	@echo "Ready: $(BIN)/byok"

demo: setup ## A simulated company on a seeded workload, the savings shown; ends by itself
	@$(BIN)/byok demo

up: setup ## The whole stack on this machine, until Ctrl-C
	@$(BIN)/byok up

test: setup ## All tests but the slow ones; under 5 minutes on 2 cores
	$(PYTEST) -m "not slow"

test-slow: setup ## The slow tests alone; says of those it skips what they need
	$(PYTEST) -m slow

test-all: setup ## All tests; says of those it skips what they need
	$(PYTEST)

check: setup ## Format, lint, types, layers, exported schemas, and full coverage of the core
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -c '$(SCHEMA_DRIFT)'
	$(PYTEST) $(COVERAGE_TESTS) -m "not slow" --cov --cov-report=term-missing --cov-fail-under=100

format: setup ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## The measured claims of the README, measured here
	@set -e; for benchmark in $(sort $(wildcard benchmarks/bench_*.py)); do \
	  echo "== $$benchmark"; $(BIN)/python $$benchmark; \
	done

bench-plots: setup $(PLOTS_STAMP) ## How it grows, measured and drawn for docs/growth.md; PLOTS="--large", "--only ledger"
	cd benchmarks && ../$(BIN)/python -m plots $(PLOTS)
	cd benchmarks && ../$(PLOTS_VENV)/bin/python -m plots.draw

$(PLOTS_STAMP): benchmarks/plots/requirements.lock
	@$(BIN)/python -m venv --clear $(PLOTS_VENV)
	@$(PLOTS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

bench-rivals: setup ## Beside Faust, Quix Streams and Bytewax, in speed and in money: writes docs/benchmarks.md
	@PYTHONPATH=benchmarks $(BIN)/python -m rivals $(RIVALS_OPTIONS)

dev-secrets: setup ## Keys and passwords for docker compose, made once, in deploy/dev-secrets
	@$(BIN)/python deploy/make_dev_secrets.py

lock: ## Resolve the dependencies anew: requirements.lock, and its part for the image (needs uv: pip install uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	@echo 'matplotlib>=3.10' | $(COMPILE) --output-file benchmarks/plots/requirements.lock -
	@# editables is what hatchling needs for `pip install -e`, and says so only while it builds.
	@echo 'editables>=0.5' | $(COMPILE) --all-extras --output-file requirements.lock pyproject.toml -
	@$(COMPILE) --extra otel --constraint requirements.lock --output-file deploy/requirements.runtime.lock pyproject.toml

clean: ## Remove what can be made again; .byok, the data of `make up`, stays
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build
	find benchmarks schemas sdk services tests -name __pycache__ -type d -prune -exec rm -rf {} +

kafka: setup ## Apache Kafka 4 (KRaft) on this machine, without Docker, until Ctrl-C; needs Java 17
	@$(BIN)/python -m tests.kafka.run $(KAFKA_OPTIONS)

faults: setup ## Random faults under load on Apache Kafka, one broker or three: make faults SEED=1 RUNS=20 BROKERS=3; needs Java 17
	@$(BIN)/python -m tests.faults --seed $(or $(SEED),1) --runs $(or $(RUNS),1) $(if $(BROKERS),--brokers $(BROKERS))

sdk-faults: setup ## Runners with the SDK, killed while the ledger fails: make sdk-faults SEED=1 RUNS=100
	@$(BIN)/python -m tests.sdk.run_sdk_faults --seed $(or $(SEED),1) --runs $(or $(RUNS),1)

.PHONY: kafka faults sdk-faults
