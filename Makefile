# One command each: setup, serve, check, test, lint, bench, train-NAME. `make` alone lists them.
#
#   PYTHON   the interpreter that makes .venv (3.11 to 3.13)
#   ACCEL    cpu or gpu: which TensorFlow is installed
#   ARGS     passed on, such as `make serve ARGS="--port 9000"` or `make test ARGS="-k swap"`

PYTHON ?= python3
ACCEL ?= cpu
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
CACHE := .make
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OPENRPC := $(CACHE)/npm/node_modules/@open-rpc/test-coverage/package.json

.DEFAULT_GOAL := help
.PHONY: help setup serve check test lint bench clean train-digits train-products train-diamonds
.DELETE_ON_ERROR:

help:
	@echo "make setup           .venv with everything that development needs"
	@echo "make serve           the service on http://127.0.0.1:8080, with the models in models/"
	@echo "make check           lint and unit tests, under two minutes"
	@echo "make test            everything"
	@echo "make lint            ruff, mypy --strict, import-linter"
	@echo "make bench           throughput beside a bare aiohttp echo (needs wrk)"
	@echo "make train-digits    retrain an example; likewise train-products, train-diamonds"

setup: $(STAMPS)/dev

serve: $(STAMPS)/serve
	@exec $(BIN)/hoverboard serve $(ARGS)

lint: $(STAMPS)/dev
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

check: lint
	@$(BIN)/python -m pytest --quiet tests/unit $(ARGS)

test: lint $(OPENRPC)
	@$(BIN)/python -m pytest --quiet $(ARGS)

bench: $(STAMPS)/dev
	@command -v wrk >/dev/null || { echo "make bench needs wrk: apt-get install wrk, or brew install wrk" >&2; exit 1; }
	@$(BIN)/python -m benchmarks $(ARGS)

train-digits train-products train-diamonds: train-%: $(STAMPS)/examples
	@$(BIN)/python examples/$*/train.py $(ARGS)

clean:
	rm -rf $(CACHE) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "Hoverboard needs Python 3.11, 3.12 or 3.13; $(PYTHON) is `$(PYTHON) -V 2>&1`. Try: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "making .venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(STAMPS)/serve: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what serving needs into $(VENV) (minutes the first time)"
	@$(INSTALL) -e '.[$(ACCEL),local]'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what development needs into $(VENV) (minutes the first time)"
	@$(INSTALL) -e '.[$(ACCEL),local,dev]'
	@mkdir -p $(STAMPS) && touch $@ $(STAMPS)/serve

$(STAMPS)/examples: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what training the examples needs into $(VENV) (minutes the first time)"
	@$(INSTALL) -e '.[$(ACCEL),local,examples]'
	@mkdir -p $(STAMPS) && touch $@ $(STAMPS)/serve

# A client that calls every method of an OpenRPC document and checks the answers against it; an npm package.
$(OPENRPC):
	@command -v npm >/dev/null || { echo "make test needs Node.js: apt-get install nodejs npm, or brew install node" >&2; exit 1; }
	@npm install --silent --no-audit --no-fund --no-save --prefix $(CACHE)/npm @open-rpc/test-coverage@2.2.4
	@touch $@
