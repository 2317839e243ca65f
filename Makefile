# Every verb sets up what it needs; none needs root, Docker, Redis or a provider key. `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
export PYTHONDONTWRITEBYTECODE ?= 1

UV_VERSION := 0.13.8
UV := .uv/bin/uv
RUN := $(UV) run --frozen --no-sync
PROTOS := $(sort $(wildcard protos/switchboard/*/v1/*.proto))

.PHONY: help setup run test check fix protos bench token log clean

help: ## List the verbs.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(UV):
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Switchboard needs Python 3.11 or newer as python3; this is $$(python3 --version)." >&2; exit 1; }
	@python3 -m venv .uv || { echo "python3 -m venv failed: install your system's venv package (Debian: python3-venv)." >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r uv.requirements.txt

.venv/.synced: $(UV) uv.lock pyproject.toml $(wildcard protos/pyproject.toml packages/*/pyproject.toml services/*/pyproject.toml)
	@$(UV) sync --frozen --quiet
	@touch $@

setup: .venv/.synced ## Install the pinned tools and dependencies into .venv.

protos: setup ## Generate the gRPC stubs from protos/.
	@$(RUN) python -m grpc_tools.protoc -I protos --python_out=protos --grpc_python_out=protos --mypy_out=protos --mypy_grpc_out=protos $(PROTOS)
