# One command each: setup, serve, check, test, lint, docs, bench, train-NAME. `make` alone lists them.
#
#   PYTHON   the interpreter that makes .venv (3.11 to 3.13)
#   ACCEL    cpu or gpu: which TensorFlow is installed
#   WORKERS  how many processes run the unit tests, 0 for one without pytest-xdist; many of them wait, so 3 suit two cores
#   ARGS     passed on, such as `make serve ARGS="--port 9000"` or `make test ARGS="-k swap"`

PYTHON ?= python3
ACCEL ?= cpu
ARGS ?=
WORKERS ?= 3

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
CACHE := .make
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OPENRPC := $(CACHE)/npm/node_modules/@open-rpc/test-coverage/package.json
TYPESCRIPT := $(CACHE)/typescript/node_modules/typescript/package.json
PROMETHEUS := $(CACHE)/prometheus/usr/bin/prometheus

.DEFAULT_GOAL := help
.PHONY: help setup serve check test .first-half .second-half lint docs chaos bench bench-outliers clean train-digits train-products train-diamonds
.DELETE_ON_ERROR:

help:
	@echo "make setup           .venv with everything that development needs"
	@echo "make serve           the service on http://127.0.0.1:8080, with the models in models/"
	@echo "make check           lint and unit tests, under two minutes"
	@echo "make test            everything"
	@echo "make chaos           the long form of the chaos tests, about half an hour"
	@echo "make lint            ruff, mypy --strict, import-linter"
	@echo "make docs            write the reference pages anew, from the code"
	@echo "make bench           throughput beside a bare aiohttp echo, cost and speed of recording (needs wrk; 12 minutes)"
	@echo "make bench-outliers  what the promise on outliers holds and finds, its cost, the alarm (20 minutes and more)"
	@echo "make train-digits    retrain an example; likewise train-products, train-diamonds"

setup: $(STAMPS)/dev

serve: $(STAMPS)/serve
	@exec $(BIN)/hoverboard serve $(ARGS)

lint: $(STAMPS)/dev
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

docs: $(STAMPS)/dev
	@$(BIN)/python -m docs.generate

check: lint
	@$(BIN)/python -m pytest --quiet --numprocesses $(WORKERS) --dist loadfile tests/unit $(ARGS)

test: lint $(OPENRPC) $(TYPESCRIPT) $(if $(shell command -v prometheus 2>/dev/null),,$(PROMETHEUS))
ifeq ($(strip $(ARGS)),)
	@# The chaos tests measure what the machine can do, and run alone. The rest in two halves side by side: most of it waits.
	@$(BIN)/python -m pytest --quiet tests/chaos; chaos=$$?; \
	$(MAKE) --no-print-directory --keep-going --jobs 2 .first-half .second-half && exit $$chaos
else
	@$(BIN)/python -m pytest --quiet $(ARGS)
endif

# Not by the shell's `&`, under which Ctrl-C is ignored, also in the processes that tests stop with it.
.first-half:
	@env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL $(BIN)/python -m pytest --quiet --durations 15 tests/conformance tests/integration \
		--ignore-glob '*/integration/test_[!a-h]*' < /dev/null

.second-half:
	@mkdir -p $(CACHE)
	@env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL $(BIN)/python -m pytest --quiet --durations 15 --ignore tests/chaos --ignore tests/conformance \
		--ignore-glob '*/integration/test_[a-h]*' < /dev/null > $(CACHE)/second-half.log 2>&1; status=$$?; \
		cat $(CACHE)/second-half.log; exit $$status

# The long form of what tests/chaos does in short, about half an hour.
chaos: $(STAMPS)/dev
	@CHAOS_ROUNDS=5 CHAOS_BLOWS=50 CHAOS_PREDICTIONS=200000 $(BIN)/python -m pytest tests/chaos $(ARGS)

bench: $(STAMPS)/dev
	@command -v wrk >/dev/null || { echo "make bench needs wrk: apt-get install wrk, or brew install wrk" >&2; exit 1; }
	@$(BIN)/python -m benchmarks $(ARGS)
	@$(BIN)/python -m benchmarks.recording
	@$(BIN)/python -m benchmarks.recorder

bench-outliers: $(STAMPS)/examples
	@$(BIN)/python -m benchmarks.outliers $(ARGS)
	@$(BIN)/python -m benchmarks.outliers.cost
	@$(BIN)/python -m benchmarks.alarm

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

# The compiler of the TypeScript client; in a folder of its own, since npm would take out what it did not install itself.
$(TYPESCRIPT):
	@command -v npm >/dev/null || { echo "make test needs Node.js: apt-get install nodejs npm, or brew install node" >&2; exit 1; }
	@npm install --silent --no-audit --no-fund --no-save --prefix $(CACHE)/typescript typescript@7.0.2
	@touch $@

# The Prometheus that scrapes the service in tests: Debian's, unpacked and not installed, where there is none on the PATH.
$(PROMETHEUS):
	@mkdir -p $(CACHE)/prometheus
	@cd $(CACHE)/prometheus && rm -f *.deb && get() { apt-get -qq -o APT::Sandbox::User=root download prometheus; } && \
		{ get 2>/dev/null || { apt-get -qq update && get; }; } && dpkg-deb -x prometheus_*.deb . && rm -f *.deb || { \
		echo "make test needs Prometheus: apt-get install prometheus, or brew install prometheus" >&2; exit 1; }
