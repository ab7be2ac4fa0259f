.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash
PYTHON ?= python3

.PHONY: help
help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 17

.PHONY: run
run: .venv/installed ## start gateway, emulator and demo phone in one process
	@echo
	echo "Starting. Then, in another shell, push to the demo phone:"
	echo
	echo "    printf 'demo-phone:greeting:{\"hello\":\"world\"}' | nc -u -w1 127.0.0.1 8120"
	echo
	exec .venv/bin/twistd -n --pidfile= node2dm -c etc/quickstart.ini

.venv/installed: setup.py pyproject.toml
	@[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip --disable-pip-version-check install --quiet --editable .
	touch $@

# In a copy of the checkout, which is gone afterwards: two may run at once, and nothing is left.
.PHONY: test test-long
test: ## check style and types and run the tests, in a fresh environment
test-long: ## run the tests that take minutes, in a fresh environment
test-long: ARGS = -m long
test test-long:
	@place=$$(mktemp -d "$${TMPDIR:-/tmp}/node2dm-test.XXXXXX")
	trap 'rm -rf "$$place"' EXIT
	export TMPDIR="$$place/tmp"
	mkdir "$$place/checkout" "$$TMPDIR"
	tar -c --exclude=./.git --exclude=./.venv --exclude=./run --exclude=./build \
		--exclude='*.egg-info' --exclude=__pycache__ --exclude='.*_cache' . | tar -x -C "$$place/checkout"
	$(PYTHON) -m venv "$$place/venv"
	cd "$$place/checkout"
	PATH="$$place/venv/bin:$$PATH"
	echo "Installing what the tests need"
	python -m pip --disable-pip-version-check install --quiet --editable '.[dev]'
	if [ $@ = test ]; then
		ruff check
		ruff format --check
		mypy
	fi
	python -m pytest --cov --cov-report=term $(ARGS)

# In an environment of its own: `make run` sends through treq, this one has the extras curl and fcm.
.PHONY: bench
bench: build/bench/installed ## measure what a push costs; PARTS="cpu idle" and ARGS=--quick choose
	@build/bench/bin/python -m benchmarks $(PARTS) $(ARGS)

build/bench/installed: setup.py pyproject.toml
	@$(PYTHON) -m venv build/bench
	build/bench/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[curl,fcm]'
	touch $@

.PHONY: docs
docs: .venv/installed ## write the references again, from the code
	@.venv/bin/python docs/generate.py

.PHONY: clean
clean: ## remove what was built; the environment too
	@rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache run
