# Two commands are enough: `make demo` and `make test`. Everything is set up in .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
# One more than cores: some tests wait for a daemon or a web server most of their time.
WORKERS = $(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')

export DAGSTER_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

.PHONY: help demo spark test-spark test test-demo check lint bench docs dev lock clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

.venv/.runtime: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed.")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: .venv/.runtime  ## set up, then run the main job on bundled real data
	$(BIN)/clv demo

dev: .venv/.runtime  ## open the Dagster UI on 127.0.0.1 with the demo's project
	$(BIN)/clv demo --prepare-only
	$(BIN)/clv dev --config clv_demo

.venv/.spark: requirements-spark.lock .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-spark.lock
	@touch $@

spark: .venv/.spark  ## add the Spark engine (needs Java 17 or newer)

test-spark: .venv/.spark  ## set up with Spark, then hold its tables to DuckDB's
	$(BIN)/pytest tests/engines

# One thread a worker: threads that wait for one another would take the others' cores.
test: export OMP_NUM_THREADS := 1
test: export OMP_THREAD_LIMIT := 1
test: .venv/.dev  ## set up, then run every test, a file a worker
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-demo: .venv/.dev  ## run the demo on all of its data, and hold the README to it
	WHOLE_DEMO=1 $(BIN)/pytest tests/test_end_to_end.py

lint: .venv/.dev  ## run every linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar dbt_project/models dbt_project/macros
	$(BIN)/lint-imports

bench: .venv/.dev  ## measure both sides at their smallest: files to features, whole runs, models
	$(BIN)/python -m benchmarks.scale --orders 100_000 --runs 1 --only landing,staging,days,day_added,one_cutoff,twelve_cutoffs --results clv_benchmarks
	$(BIN)/python -m benchmarks.whole_run --orders 100_000 --results clv_benchmarks
	$(BIN)/python -m benchmarks.scale_models --project clv_benchmarks/whole_100000 --customers 10_000 --runs 1 --only training,scoring,standing,totals,gates,publication --results clv_benchmarks

check: lint test  ## run every linter and every test

docs: .venv/.runtime  ## write the pages that are rendered from the code
	$(BIN)/python -m clv_pipeline.documentation docs

lock: .venv/.dev  ## pin the dependencies anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --no-strip-extras -q -o requirements-dev.lock
	uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --no-strip-extras -q -c requirements-dev.lock -o requirements.lock
	uv pip compile pyproject.toml --extra spark --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --no-strip-extras -q -c requirements-dev.lock -o requirements-spark.lock

clean:  ## remove what set-up and the demo wrote
	rm -rf .venv clv_demo clv_benchmarks .mypy_cache .ruff_cache .pytest_cache
