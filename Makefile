.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash
PYTHON ?= python3
INSTALL = python -m pip --disable-pip-version-check install --quiet --no-compile --editable

# The versions that the tests passed with, for every pip that is called from here on. Newer ones ask
# the second name about what builds a package.
export PIP_CONSTRAINT ?= constraints.txt
export PIP_BUILD_CONSTRAINT = $(PIP_CONSTRAINT)

.PHONY: help
help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 17

.PHONY: run
run: .venv/installed ## start gateway, emulator and two demo phones in one process
	@to='nc -u -w1 127.0.0.1 8120'
	command -v nc >/dev/null || to='cat >/dev/udp/127.0.0.1/8120'
	echo
	echo "Starting. Then, in another shell, push over C2DM:"
	echo
	echo "    printf 'demo-phone:greeting:{\"hello\":\"world\"}' | $$to"
	echo
	echo "and over FCM, with a notification that the phone shows:"
	echo
	echo "    printf '{\"route\":\"fcm\",\"token\":\"demo-fcm-phone\",\"notification\":{\"title\":\"Hello\",\"body\":\"World\"}}' | $$to"
	echo
	echo "What a phone receives appears below. http://127.0.0.1:8122/ is the status page; Ctrl-C ends it all."
	echo
	chmod o-r etc/quickstart.ini  # it has a token, so the gateway would warn
	exec .venv/bin/twistd -n --pidfile= node2dm -c etc/quickstart.ini

.venv/installed: setup.py pyproject.toml constraints.txt
	@[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	echo "Installing into .venv"
	.venv/bin/$(INSTALL) '.[all]'
	touch $@

# All but those that wait for processes: gateways, servers, environments.
UNIT_TESTS = tests/unit $(patsubst %,--ignore=tests/unit/%,\
	app/test_hangups.py app/test_process.py config/test_mistakes.py emulator/phone emulator/server\
	emulator/test_firebase_admin.py emulator/test_testing.py http)

.PHONY: check
check: build/dev/installed ## check style and types and run the unit tests, in less than a minute
	@export PATH="$(CURDIR)/build/dev/bin:$$PATH"
	ruff check
	ruff format --check
	mypy
	python -m pytest --quiet --numprocesses=$$(nproc) --hypothesis-profile=quick $(UNIT_TESTS) $(ARGS)

build/dev/installed: setup.py pyproject.toml constraints.txt
	@$(PYTHON) -m venv build/dev
	build/dev/bin/$(INSTALL) '.[dev]'
	touch $@

# In a copy of the checkout, which is gone afterwards: two may run at once, and nothing is left. Two
# workers for each core: many tests wait.
.PHONY: test test-long test-newest constraints
test: ## check style and types and run the tests, in a fresh environment
test-long: ## run the tests that take minutes, in a fresh environment
test-newest: ## as `test`, with the newest version of every dependency
constraints: ## as `test-newest`, and if all passes write the versions to constraints.txt
test-long: ARGS = -m long
test-newest constraints: export PIP_CONSTRAINT =
test test-long test-newest constraints:
	@$(PYTHON) tests/support/tools.py
	place=$$(mktemp -d "$${TMPDIR:-/tmp}/node2dm-test.XXXXXX")
	export TMPDIR="$$place/tmp"
	# What still runs and has this TMPDIR was started here, whoever its parent is by now.
	clean() {
		export -n TMPDIR
		grep -Flsxz "TMPDIR=$$TMPDIR" /proc/[0-9]*/environ | cut -d/ -f3 | xargs -r kill -KILL || :
		rm -rf "$$place"
	}
	trap clean EXIT
	mkdir "$$place/checkout" "$$TMPDIR"
	tar -c --exclude=./.git --exclude=./.venv --exclude=./run --exclude=./build \
		--exclude='*.egg-info' --exclude=__pycache__ --exclude='.*_cache' . | tar -x -C "$$place/checkout"
	$(PYTHON) -m venv "$$place/venv"
	cd "$$place/checkout"
	PATH="$$place/venv/bin:$$PATH"
	echo "Installing what the tests need"
	$(INSTALL) '.[dev]'
	if [ $@ != test-long ]; then
		ruff check
		ruff format --check
		mypy
	fi
	# A process group of its own, so that the tests end in order when make is stopped by a signal.
	set -m
	trap 'kill -TERM -$$!' INT TERM
	python -m pytest --numprocesses=$$(($$(nproc) * 2)) $(ARGS) </dev/null &
	wait $$! || wait $$!
	if [ $@ = constraints ]; then
		python -m pip freeze --all --exclude-editable --exclude pip > "$(CURDIR)/constraints.txt"
	fi

# In an environment of its own, which has only what is measured.
.PHONY: bench
bench: build/bench/installed ## measure what a push costs; PARTS="cpu idle" and ARGS=--quick choose
	@build/bench/bin/python -m benchmarks $(PARTS) $(ARGS)

build/bench/installed: setup.py pyproject.toml constraints.txt
	@$(PYTHON) -m venv build/bench
	build/bench/bin/$(INSTALL) '.[curl,fcm]'
	touch $@

.PHONY: docs
docs: .venv/installed ## write the references again, from the code
	@.venv/bin/python docs/generate.py

.PHONY: clean
clean: ## remove what was built; the environment too
	@rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache run
