# What one does here; `make help` says it in a sentence each. Needs git, make and Python 3.11 or newer.

SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python
.DEFAULT_GOAL := help
.PHONY: help dev web operation test bench chaos docs check format schema migrate explorer documents environment lock clean

help: ## Lists these commands.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.DEFAULT:
	@echo "There is no target $@: make help lists all of them." >&2; exit 2

dev: environment ## Starts everything in this terminal, on embedded parts, until Ctrl-C.
	@$(RUN) -m gateway.explorer.build || true
	@exec $(RUN) -m worker.dev

web: ## Starts the example page for `make dev`, with Node.js 20.19 or newer, at http://127.0.0.1:5173, until Ctrl-C.
	@sh examples/web/check.sh
	@cd examples/web && { test node_modules -nt package-lock.json || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || { echo "The packages of examples/web could not be installed: npm says why above." >&2; exit 1; }; } && exec npm run --silent dev

operation: environment ## Writes a new operation with its tests, or says why not: NAME=archive_tenant DOMAIN=tenants.
	@$(RUN) -m tools.scaffold "$(NAME)" "$(DOMAIN)"

# Where this variable is set, each of hundreds of processes, and each sandbox of a workflow, compiles everything anew.
test: export PYTHONDONTWRITEBYTECODE =
test: environment ## Runs all tests; ARGS="..." goes to pytest.
	@$(RUN) -m pytest -n auto --dist loadgroup $(ARGS)

bench: environment ## Measures how fast it is into docs/benchmarks.md, within 20 minutes; ARGS="--only start" measures one thing.
	@$(RUN) -m tools.benchmarks $(ARGS)

chaos: environment ## Kills and cuts off every part, within 20 minutes, into docs/reliability.md; ARGS="--seed 7" does it again.
	@$(RUN) -m tools.chaos $(ARGS)

check: environment ## Checks format, lint, types, imports and that schema.graphql is up to date.
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports
	@$(RUN) -m schema --check

docs: environment ## Builds the documentation into .site, with its pages made of the code.
	@$(RUN) -m mkdocs build --quiet
	@echo "The documentation is built: open file://$(CURDIR)/.site/index.html"

format: environment ## Formats the code and mends what the linter can mend.
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

schema: environment ## Writes schema.graphql from the code.
	@$(RUN) -m schema

migrate: environment ## Brings the database named by DATABASE_URL up to date.
	@$(RUN) -m worker.migrate

explorer: environment ## Builds GraphiQL where node is found, once.
	@$(RUN) -m gateway.explorer.build

DOCUMENTS := documents
MANIFEST := documents.json

documents: environment ## Writes MANIFEST (documents.json): each operation in the folder DOCUMENTS (documents), by its hash.
	@$(RUN) -m gateway.http.document_manifest $(DOCUMENTS) $(MANIFEST)

environment: ## Makes .venv from requirements.lock, if it is not made from it already.
	@sh environment.sh $(VENV)

lock: environment ## Writes requirements.lock and the image's docker/requirements.lock anew from pyproject.toml.
	@$(VENV)/bin/uv pip compile --universal --generate-hashes --python-version 3.11 \
		pyproject.toml --group dev --output-file requirements.lock --quiet
	@$(VENV)/bin/uv pip compile --universal --generate-hashes --python-version 3.11 --no-annotate \
		pyproject.toml --constraint requirements.lock --output-file docker/requirements.lock --quiet

clean: ## Removes what was made here, the data in .data excepted.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis gateway/explorer/dist gateway/explorer/app/node_modules examples/web/node_modules examples/web/dist
