# The commands of the project; `make help` lists them. Requirements: git, make and Python 3.11 or newer.

SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python
.DEFAULT_GOAL := help
.PHONY: help dev web operation domain test bench chaos mutation docs check format schema migrate explorer documents environment lock clean

help: ## List these commands.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.DEFAULT:
	@echo "$@ is not a target: make help lists the targets." >&2; exit 2

dev: environment ## Run the product in this terminal, with embedded servers, until Ctrl-C.
	@$(RUN) -m gateway.explorer.build || true
	@exec $(RUN) -m worker.dev

web: ## Serve the example web page of `make dev` at http://127.0.0.1:5173 until Ctrl-C; needs Node.js 20.19 or newer.
	@sh examples/web/check.sh
	@cd examples/web && { test node_modules -nt package-lock.json || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || { echo "The packages of examples/web could not be installed: see the output of npm above." >&2; exit 1; }; } && exec npm run --silent dev

operation: environment ## Generate a new operation with its tests: NAME=archive_tenant DOMAIN=tenants.
	@$(RUN) -m tools.scaffold operation "$(NAME)" "$(DOMAIN)"

domain: environment ## Generate a new domain (tables, service, endpoints, client, settings) with its tests: NAME=billing.
	@$(RUN) -m tools.scaffold domain "$(NAME)"

# With this variable, each of hundreds of test processes and each workflow sandbox would compile every module again.
test: export PYTHONDONTWRITEBYTECODE =
test: environment ## Run all tests; ARGS="..." is passed to pytest.
	@$(RUN) -m pytest -n auto --dist loadgroup $(ARGS) || { test $$? -eq 1 && \
		echo "The failed tests run once more, alone: a test that passes now depends on the load of the machine." && \
		$(RUN) -m pytest --last-failed --last-failed-no-failures none --maxfail 10; }

bench: environment ## Run the benchmarks and write docs/benchmarks.md, within 20 minutes; ARGS="--only start" runs one of them.
	@$(RUN) -m tools.benchmarks $(ARGS)

chaos: environment ## Run chaos tests on every process and write docs/reliability.md, within 20 minutes; ARGS="--seed 7" repeats a run.
	@$(RUN) -m tools.chaos $(ARGS)

mutation: environment ## Change the critical modules in 150 places and count which changes the tests notice, within an hour; ARGS="--seed 7" samples others.
	@test -d $(VENV)/mutation || $(VENV)/bin/uv pip install --quiet --python $(RUN) --target $(VENV)/mutation --require-hashes -r tools/mutation/requirements.lock
	@PYTHONPATH=$(VENV)/mutation $(RUN) -m tools.mutation $(ARGS)

check: environment ## Check format, lint, types, import rules and that schema.graphql is up to date.
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports
	@$(RUN) -m schema --check

docs: environment ## Build the documentation into .site, with the pages that are generated from the code.
	@$(RUN) -m mkdocs build --quiet
	@echo "The documentation is built: open file://$(CURDIR)/.site/index.html"

format: environment ## Format the code and apply the fixes of the linter.
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

schema: environment ## Generate schema.graphql from the code.
	@$(RUN) -m schema

migrate: environment ## Apply the migrations to the database of DATABASE_URL.
	@$(RUN) -m worker.migrate

explorer: environment ## Build GraphiQL once, if Node.js is installed.
	@$(RUN) -m gateway.explorer.build

DOCUMENTS := documents
MANIFEST := documents.json

documents: environment ## Write MANIFEST (documents.json): the operations in the folder DOCUMENTS (documents) by their hash.
	@$(RUN) -m gateway.http.document_manifest $(DOCUMENTS) $(MANIFEST)

environment: ## Create .venv from requirements.lock, unless it is up to date.
	@sh environment.sh $(VENV)

lock: environment ## Regenerate requirements.lock and docker/requirements.lock (for the image) from pyproject.toml.
	@$(VENV)/bin/uv pip compile --universal --generate-hashes --python-version 3.11 \
		pyproject.toml --group dev --output-file requirements.lock --quiet
	@$(VENV)/bin/uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate \
		pyproject.toml --constraint requirements.lock --output-file docker/requirements.lock --quiet

clean: ## Remove generated files, except the data in .data.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis gateway/explorer/dist gateway/explorer/app/node_modules examples/web/node_modules examples/web/dist
