# `make demo` and `make test` are all that a newcomer needs: Python 3.11, make and a package index.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIN := uv pip compile pyproject.toml --generate-hashes --python-version 3.11 --custom-compile-command "make lock" -q

.DEFAULT_GOAL := help
.PHONY: help demo test check site bench bench-faults kafka lock release-check

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/core: requirements.core.lock pyproject.toml
	@echo "Fetching the packages of requirements.core.lock into $(VENV), some 150 MB: a minute or two."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.core.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/full: requirements.lock $(VENV)/core
	@echo "Fetching the packages of requirements.lock into $(VENV), for tests and training too, some gigabytes: minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

demo: $(VENV)/core  ## live lists from MovieLens-100k, with a page to watch
	$(BIN)/freshet demo

test: $(VENV)/full  ## every test; a missing broker or browser is a named skip, in CI a failure
	$(BIN)/python -m pytest --numprocesses 6 --dist loadfile --no-loadscope-reorder

check: $(VENV)/full  ## style, types, layers, links of the site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m deploy.generate.site .cache/site

site: $(VENV)/full  ## the documentation as a site, in .cache/site/html; a dead link is an error
	$(BIN)/python -m deploy.generate.site .cache/site

bench: $(VENV)/full  ## the measurements of tests/benchmarks
	$(BIN)/python -m tests.benchmarks

bench-faults: $(VENV)/full  ## crashes, kills, a dying broker, undo and latency, measured on a real Kafka (20 minutes)
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m tests.benchmarks.faults
	$(BIN)/python -m tests.benchmarks.undo
	$(BIN)/python -m tests.benchmarks.latency

kafka: $(VENV)/core  ## a real Kafka 4.1 on loopback until Ctrl-C (Java 17 and Maven)
	$(BIN)/python -m tests.kafka_broker

lock:  ## pin again what pyproject.toml asks for (needs uv)
	$(PIN) --all-extras -o requirements.lock
	$(PIN) --extra build -c requirements.lock -o requirements.core.lock
	$(PIN) --extra build --extra feedback -c requirements.lock -o deploy/image.lock
	$(PIN) --extra feedback --extra graph -c requirements.lock -o deploy/train.lock \
	  $$(sed -nE 's/^([a-z0-9._-]+)==.*/--no-emit-package \1/p' deploy/image.lock) \
	  $$(sed -nE 's/^((cuda|nvidia)-[a-z0-9-]+|torch|triton)==.*/--no-emit-package \1/p' requirements.lock)

release-check: $(VENV)/full  ## what is to be so before a version is published; leaves it in dist/ (needs uv)
	$(BIN)/python -m deploy.release
