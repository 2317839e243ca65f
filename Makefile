# Every verb sets up what it needs; none needs root, Docker, Redis or a provider key. `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

UV := .uv/bin/uv
RUN := $(UV) run --frozen --no-sync --quiet
PROTOS := $(sort $(wildcard protos/switchboard/*/v1/*.proto))
PACKAGES := chat runtime simulator switchboard_client launcher session llm_worker gateway bench
# $(1): the folder that the stubs are written below.
PROTOC = $(RUN) python -m grpc_tools.protoc -I protos --python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)

.PHONY: help setup run token log knowledge test check fix protos publish bench clean

help: ## List the verbs.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(UV): uv.requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Switchboard needs Python 3.11 or newer as python3; this is $$(python3 --version)." >&2; exit 1; }
	@python3 -m venv .uv || \
	  { echo "python3 -m venv failed: install your system's package for it (Debian: python3-venv)." >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r uv.requirements.txt
	@touch $@

.venv/.synced: $(UV) uv.lock pyproject.toml $(wildcard */pyproject.toml */*/pyproject.toml)
	@echo "installing the pinned dependencies into .venv" >&2
	@$(UV) sync --frozen --quiet --compile-bytecode
	@touch $@

setup: .venv/.synced ## Install the pinned tools and dependencies into .venv.

run: setup ## Run the whole system in the foreground; Ctrl-C stops it.
	@exec $(RUN) python -m launcher

token: setup ## Print a user's token: make token USER=alice.
	@$(RUN) python -m launcher token "$(USER)"

log: setup ## Print a chat's log, readable: make log CHAT=<id>, or CHAT=faye/<unique_token>.
	@$(RUN) python -m launcher log "$(CHAT)"

knowledge: setup ## Fill the knowledge store from a folder of documents: make knowledge FOLDER=docs.
	@KNOWLEDGE_DIR="$${KNOWLEDGE_DIR:-$${SWITCHBOARD_DATA_DIR:-./data}/knowledge}" \
	  $(RUN) python -m llm_worker.load_knowledge "$(FOLDER)"

test: setup ## Run every test.
	@$(RUN) pytest -q -n auto --dist loadfile $(PYTEST_ARGS)

check: setup ## Check format, lint, types, import contracts and protos; writes nothing.
	@$(RUN) ruff format --check --quiet . || { echo "not formatted: run make fix" >&2; exit 1; }
	@$(RUN) ruff check --quiet .
	@$(RUN) mypy --no-error-summary --cache-dir=/dev/null $(addprefix -p ,$(PACKAGES))
	@$(RUN) lint-imports --no-cache > .venv/imports.txt || { cat .venv/imports.txt; exit 1; }
	@$(RUN) buf lint protos
	@$(RUN) buf format --diff --exit-code protos
	@$(RUN) buf breaking protos --against protos/published.binpb
	@stubs=$$(mktemp -d); trap 'rm -r "$$stubs"' EXIT; $(call PROTOC,$$stubs); \
	  for stub in $$(cd "$$stubs" && find . -name '*_pb2*'); do cmp "$$stubs/$$stub" "protos/$$stub" || \
	  { echo "stale stubs: run make protos" >&2; exit 1; }; done
	@echo "all checks passed"

fix: setup ## Format, and mend what the linter can.
	@$(RUN) ruff format --quiet .
	@$(RUN) ruff check --quiet --fix .
	@$(RUN) buf format --write protos

protos: setup ## Generate the gRPC stubs from protos/.
	@$(call PROTOC,protos)

publish: setup ## Take the contracts as they are for the published ones, which no later change may break.
	@$(RUN) buf build protos --output protos/published.binpb

bench: setup ## Measure the relay beside a direct call: make bench [BENCH_ARGS=--quick].
	@$(RUN) python -m bench $(BENCH_ARGS)

clean: ## Remove what the other verbs made, ./data apart.
	@rm -rf .uv .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
