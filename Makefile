# `make demo` and `make test` are all that a fresh machine needs: Python >= 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
# LangChain, LlamaIndex and pgai, whose tables are adopted in the tests: they want older libraries than ours.
STORES := .venv-stores
ROWS ?= 1500
PYTEST_ARGS ?=
# One more than a small machine has cores: many tests wait for a worker's, a server's or a standby's next move.
WORKERS ?= 3
BENCH_ARGS ?=
# Where it is set, every command that a test starts compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup stores demo collected test lint docs bench bench-peers lock clean

help: ## what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(VENV)/.done ## build .venv from the lock file, hashes checked

$(VENV)/.done: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"pgvmig needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}. Next: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

stores: $(STORES)/.done ## build .venv-stores: the libraries whose tables the tests adopt

$(STORES)/.done: requirements/stores.txt
	$(PYTHON) -m venv $(STORES)
	$(STORES)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

demo: setup ## one whole migration on the embedded PostgreSQL, with live traffic
	$(BIN)/pgvmig demo --rows $(ROWS)

lint: setup ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# pytest rewrites every assert, most of what it takes to find the tests. Done once and kept, the processes need not each do it.
collected: setup
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null || $(BIN)/python -m pytest --collect-only -q

test: ## lint, then every test
	$(MAKE) -j2 lint stores collected
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

docs: setup ## write docs/cli.md, the tables of docs/pacing.md and the operations in docs/alembic.md again
	$(BIN)/python -m pgvmig.cli.reference > docs/cli.md
	$(BIN)/python -m pgvmig.cli.pacing_reference docs/pacing.md
	$(BIN)/python -m pgvmig.alembic_plugin.reference docs/alembic.md
	$(BIN)/python tests/integration/tables/reference.py docs/tables.md

bench: setup ## measure, about 15 minutes; BENCH_ARGS="--write docs/performance.md" keeps the table
	$(BIN)/python -m bench $(BENCH_ARGS)

bench-peers: setup ## the same table with vecshift and pgai, which are installed beside pgvmig
	$(BIN)/python -m bench --peers $(BENCH_ARGS)

lock: setup ## write the lock file again from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 \
	  --generate-hashes --no-header --quiet -o $(LOCK)
	$(BIN)/uv pip compile requirements/stores.in --universal --python-version 3.11 \
	  --generate-hashes --no-header --quiet -o requirements/stores.txt

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(STORES) .venv-peers dist .mypy_cache .ruff_cache .pytest_cache
