# Everything a developer runs. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Quiet twice: errors still show, but not pip's warnings about every index of this machine that lacks a package.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input

# Whoever reaches it first installs; a second make, say `make test` while `make run` still installs, waits for it.
# Where flock does not exist (macOS), that one case is left to luck.
ONE_AT_A_TIME := $(if $(shell command -v flock),flock .venv.lock)

# One resolution for every platform and Python from 3.11 on. Names of index hosts stay out: where packages come from is
# the business of the machine that installs them, and what they must be is said by the hashes.
UPGRADE :=
COMPILE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(UPGRADE)

# The tools from npm start with `env node`: let them find the one that is installed here.
NODE := PATH="$(CURDIR)/$(BIN):$(CURDIR)/node_modules/.bin:$$PATH"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-local install-node run test format lint types contracts check openapi openapi-released sdk \
	fuzz bench bench-delivery bench-http bench-isolation lock upgrade clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- Installation: two stamps in the venv, so that nothing runs again until a lock or pyproject.toml has changed

install: ## Install the project and all its tools into .venv
	@$(ONE_AT_A_TIME) $(MAKE) --silent $(VENV)/.dev-installed

install-local:
	@$(ONE_AT_A_TIME) $(MAKE) --silent $(VENV)/.local-installed

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is older or missing."; \
		echo "Install one (on Debian 12: apt-get install python3 python3-venv), or name it: make PYTHON=python3.13 ..."; \
		exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments: its venv or ensurepip module is missing."; \
		echo "On Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; } >&2
	@echo "==> Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.local-installed: requirements/local.txt requirements/build.txt pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "==> Installing what the whole system needs on one machine (requirements/local.txt)"
	@$(PIP) install --require-hashes -r requirements/local.txt -r requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev-installed: requirements/dev.txt $(VENV)/.local-installed
	@echo "==> Installing the development tools (requirements/dev.txt)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

# Node itself is a Python package of requirements/dev.txt: what Debian has is too old for these tools.
install-node: install
	@$(ONE_AT_A_TIME) $(MAKE) --silent node_modules/.installed

node_modules/.installed: package-lock.json package.json .npmrc | $(VENV)/.dev-installed
	@echo "==> Installing the tools that are published on npm (package-lock.json)"
	@$(NODE) npm ci --silent --no-audit --no-fund
	@touch $@

# ---- Running

run: install-local ## Run the whole system on this machine: database, queue, api and worker
	@$(BIN)/notify up

test: install build/sdk/compiled ## Run all tests
	@$(BIN)/python -m pytest

# ---- Checking

format: install ## Format the code and repair what ruff can repair
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lint: install install-node ## Check format, code, migrations, the OpenAPI document, container files and YAML
	@echo "==> ruff"
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@echo "==> squawk (the SQL of the migrations)"
	@mkdir -p build
	@$(BIN)/alembic upgrade head --sql > build/migrations.sql
	@$(BIN)/squawk build/migrations.sql
	@echo "==> redocly and openapi-generator (openapi.json)"
	@$(NODE) redocly lint --lint-config error --format stylish openapi.json
	@$(BIN)/openapi-generator-cli validate --recommend --input-spec openapi.json
	@if grep -n '"resolved"' package-lock.json; then echo "A lock names a host (see above)." >&2; exit 1; fi
	@echo "==> hadolint"
	@$(BIN)/hadolint Dockerfile.api Dockerfile.worker
	@echo "==> check-jsonschema and yamllint"
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
	@$(BIN)/yamllint --strict .

types: install ## Check types with mypy --strict
	@echo "==> mypy"
	@$(BIN)/mypy

contracts: install ## Check who imports whom
	@echo "==> import-linter"
	@$(BIN)/lint-imports

check: lint types contracts ## Check all of the above, then run all tests and fuzz: what CI runs
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory fuzz

# ---- The API's document, and what is made from it

openapi: install ## Write the OpenAPI document, openapi.json, as the code describes it
	@$(BIN)/notify openapi > openapi.json

openapi-released: ## Promise today's openapi.json to clients: from now on it must not break (see CONTRIBUTING.md)
	@cp openapi.json openapi.released.json

sdk: build/sdk/compiled ## Generate the Python and TypeScript SDKs into build/sdk, compile them and try them
	@$(BIN)/python -m pytest tests/e2e/test_sdks.py

# Always built anew together: a client of yesterday's document that still compiles proves nothing.
build/sdk/compiled: openapi.json $(wildcard sdk/* tests/e2e/sdks/*) package-lock.json requirements/dev.txt | install-node
	@rm -rf build/sdk
	@mkdir -p build/sdk/python
	@echo "==> The Python SDK: openapi-python-client, mypy --strict"
	@$(BIN)/openapi-python-client generate --path openapi.json --config sdk/python.yaml --meta none --fail-on-warning \
		--output-path build/sdk/python/notifications_client
	@MYPYPATH=build/sdk/python $(BIN)/mypy --config-file= --strict build/sdk/python/notifications_client \
		tests/e2e/sdks/journey.py
	@echo "==> The TypeScript SDK: openapi-ts, tsc --strict"
	@$(NODE) openapi-ts --file sdk/typescript.config.ts
	@$(NODE) tsc --project sdk/tsconfig.json
	@touch $@

fuzz: install ## Fuzz the running service by openapi.json; longer and by chance with MAX_EXAMPLES=1000 (and SEED=7)
	@$(BIN)/python -m tests.fuzz.run $(if $(MAX_EXAMPLES),--max-examples $(MAX_EXAMPLES)) $(if $(SEED),--seed $(SEED))

# ---- Measuring

bench: install ## Measure the fan-out: rows per second beside PostgreSQL's own, and the worker's memory
	@$(BIN)/python -m benchmarks.fan_out

bench-http: install ## Measure the HTTP clients at hand, and what the guard of ours costs
	@$(BIN)/python -m benchmarks.http_clients

bench-isolation: install ## Measure what row-level security costs the inbox and the fan-out
	@$(BIN)/python -m benchmarks.row_security

bench-delivery: install ## Measure sending beside the client alone, servers that hang, and the fan-out with channels
	@$(BIN)/python -m benchmarks.delivery

# ---- Dependencies

# dev.txt holds all the others, so it is resolved first and the others are held to its versions.
lock: install ## Lock the dependencies for what pyproject.toml asks, keeping the versions that still fit
	@echo "==> Locking into requirements/"
	@$(COMPILE) pyproject.toml --extra dev --output-file requirements/dev.txt
	@$(COMPILE) pyproject.toml --extra local --constraints requirements/dev.txt --output-file requirements/local.txt
	@$(COMPILE) pyproject.toml --constraints requirements/dev.txt --output-file requirements/runtime.txt
	@$(COMPILE) --group build --constraints requirements/dev.txt --output-file requirements/build.txt
	@if grep -n '://' requirements/*.txt; then echo "A lock names a host (see above)." >&2; exit 1; fi

upgrade: ## Lock the newest versions of everything
	@$(MAKE) --no-print-directory lock UPGRADE=--upgrade

clean: ## Remove the virtual environment, caches and what was built; .local/ with its data stays
	rm -rf $(VENV) .venv.lock build dist node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
