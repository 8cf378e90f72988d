# Each target sets up .venv from requirements.lock when it is missing or stale.
RECIPE ?= standard
SHELL := /bin/sh
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# pages with blocks that cog writes
GENERATED := README.md $(wildcard docs/*.md) docs/decisions/index.md
COG = $(BIN)/cog -I benchmarks
# all but gpu, whose CUDA libraries take gigabytes
EXTRAS := $(addprefix --extra ,train audit label tracking heic openvino serve jax scale litert notebook)
READY := .venv/.ready
FITTING := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(FITTING)' 2>/dev/null && echo $$p && break; done)

.PHONY: setup train test test-quick test-durability lint docs package container tables bench notebook lock
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@if command -v uv >/dev/null; then \
		uv venv --quiet --clear --python "$${UV_PYTHON:->=3.11,<3.14}" .venv && \
		uv pip install --quiet --no-config --python $(BIN)/python --require-hashes -r requirements.lock && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	elif [ -n "$(PYTHON)" ]; then \
		$(PYTHON) -m venv --clear .venv && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	else \
		echo "make: found no Python >=3.11,<3.14; install one, or uv" >&2; exit 1; \
	fi
	@touch $@

train: $(READY)
	@$(BIN)/fashion-cnn train $(RECIPE)

test: $(READY)
	@$(PYTEST)

test-quick: $(READY)
	@$(PYTEST) -m 'not slow and not durability'

test-durability: $(READY)
	@$(PYTEST) -m durability

lint: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(COG) --check $(GENERATED)
	@test ! -x $(BIN)/hadolint || $(BIN)/hadolint Dockerfile
	@test ! -x $(BIN)/actionlint || $(BIN)/actionlint
	@test ! -x $(BIN)/zizmor || $(BIN)/zizmor --offline --quiet --persona pedantic .github

docs: $(READY)
	@NO_COLOR=1 $(BIN)/zensical build --clean --strict

package: $(READY)
	@$(BIN)/python .ci/package.py

container: $(READY)
	@$(BIN)/python .ci/container.py

tables: $(READY)
	@$(COG) -r $(GENERATED)

bench: $(READY)
	@$(BIN)/python benchmarks/textbook.py --rows "$$(mktemp -d)/textbook.csv"

notebook: $(READY)
	@$(BIN)/jupyter lab notebooks/convolutional_neural_networks.ipynb

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(EXTRAS) \
		--group dev --no-header --no-annotate pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra serve \
		--no-header --no-annotate pyproject.toml --output-file requirements-serve.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group build \
		--no-header --no-annotate --output-file requirements-build.lock
