# What a developer does with Fairlead; `make help` lists it.
# PYTHON is the interpreter that .venv is made with: `make run PYTHON=python3.12`.

PYTHON ?= python3
CONSTRAINTS := deployments/constraints.txt
COVERAGE := 95
# Less, because the processes that tests kill with SIGKILL write down nothing of what they covered.
ORCHESTRATOR_COVERAGE := 90
PROGRAMS := curl haproxy nginx prometheus wrk git openssl
# A Docker Engine of the tests' own, which only root can start. Others use one that runs, or do
# without: the tests of the engine are skipped then, and say so.
ENGINE := busybox:busybox-static dockerd:docker.io ip:iproute2 iptables mkfs.btrfs:btrfs-progs mmdebstrap

BIN := .venv/bin
# Wheels only: nothing here may need a compiler, but for what each request passes through, which is
# compiled where there is one. The build of Fairlead itself takes the setuptools, the Cython and the
# mypy of .venv, which are pinned, and not whichever are newest.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--only-binary :all: --no-build-isolation -c $(CONSTRAINTS)

# What the compiled head codec is made of: its source, the compiler, Python and its headers. By this
# and not by time: what is there once is not compiled again, and a compiler that comes later is used.
CODEC := .venv/.codec-$(shell { cat edge/wire/_codec*.p[xy]*; command -v cc; $(PYTHON) -c 'import sys, \
	sysconfig; print(sys.version, open(sysconfig.get_path("include") + "/patchlevel.h").read())'; } \
	2> /dev/null | sha256sum | cut -c 1-16)

# And the compiled conversation, in the same way.
CONVERSATION := .venv/.conversation-$(shell { $(PYTHON) -c 'from edge.compiled import library_name; \
	print(library_name())'; command -v cc; } 2> /dev/null | sha256sum | cut -c 1-16)

# What stops at the first octet beyond its bounds, and at what C leaves undefined. With Python's
# allocator off, each object is one of theirs.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all

# A process for each core, and one for what waits; what shares a costly fixture (the mark
# xdist_group) stays in one of them.
PROCESSES := $(shell expr $$(nproc) + 1)
PYTEST = $(BIN)/python -m pytest --numprocesses=$(PROCESSES) --maxprocesses=8 --dist=loadgroup \
	$(if $(SLOWEST),--durations=$(SLOWEST) --durations-min=0)

.DELETE_ON_ERROR:
.PHONY: help run test test-short test-cover test-pure test-compiled chaos fuzz check sec vulncheck \
	bench soak wheel clean docs constraints programs

help:
	@echo 'make run          serve on :8080 (FAIRLEAD_HTTP_ADDR=:9000 make run: on :9000)'
	@echo 'make test         run all tests'
	@echo 'make test-short   run the tests that need no Docker Engine, and of the model a quarter'
	@echo 'make test-cover   run all tests, and write to htmlcov/ what they cover: branch coverage of'
	@echo '                  edge/ is at least $(COVERAGE) %, of orchestrator/ $(ORCHESTRATOR_COVERAGE) %'
	@echo '                  (make test SLOWEST=20, or any of the three: the slowest 20 as well)'
	@echo 'make test-pure    run the conversations that the head codec decides, on the one that is not'
	@echo '                  compiled (FAIRLEAD_PURE=1 make test: all tests)'
	@echo 'make test-compiled  run what a request passes through in its compiled form'
	@echo 'make chaos        break the running program on purpose, in the long forms'
	@echo '                  (MODEL_EXAMPLES=10000 make chaos: of the model so many, and not 4000)'
	@echo 'make fuzz         compare the compiled head codec with the pure one, and with llhttp'
	@echo '                  (FUZZ="--heads 10000000 --seed 1" make fuzz: so many, and these)'
	@echo '                  (SANITIZE=1 make fuzz: with AddressSanitizer and UndefinedBehaviorSanitizer)'
	@echo 'make check        ruff, mypy --strict, the import contracts'
	@echo "make sec          ruff's rules on security alone, which make check asks as well"
	@echo 'make vulncheck    ask OSV for known vulnerabilities of the pinned packages: error 1, there is'
	@echo '                  one; error 3, nothing was checked, since no advisories could be had'
	@echo '                  (OSV_URL=https://.../v1/query make vulncheck: of another server)'
	@echo 'make bench        measure against nginx, HAProxy and Caddy'
	@echo 'make soak         half an hour of mixed load, and 1,000 deploys on a disk of 10 GB: neither'
	@echo '                  memory nor descriptors nor disk may leak'
	@echo '                  (SOAK_MINUTES=2 SOAK_DEPLOYS=40 make soak: shorter)'
	@echo 'make wheel        a wheel in dist/, for this Python, with the head codec and the conversation'
	@echo '                  compiled where they can be'
	@echo 'make docs         write the tables of settings and route options in docs/ anew'
	@echo 'make constraints  pin the newest versions of all dependencies'
	@echo 'make clean        remove what the others made'

run: .venv/.runtime
	@FAIRLEAD_HTTP_ADDR="$${FAIRLEAD_HTTP_ADDR:-:8080}" exec $(BIN)/fairlead up

# COVER is how coverage is reported, in CI term. To count it takes half as long again.
test: .venv/.dev programs
	@$(PYTEST) -m 'not chaos and not soak' $(if $(COVER),--cov --cov-report=$(COVER))
ifdef COVER
	@$(BIN)/coverage report --include='edge/*' --fail-under=$(COVERAGE)
	@$(BIN)/coverage report --include='orchestrator/*' --fail-under=$(ORCHESTRATOR_COVERAGE)
endif

# One process more: none of them starts an engine, and they wait for a quarter of their time.
test-short: PROCESSES := $(shell expr $$(nproc) + 2)
test-short: .venv/.dev programs
	@$(PYTEST) -m 'not engine and not slow and not chaos and not soak'

# How requests and responses are read, forwarded and begun, once more: half a minute on two cores, where
# all conversations take a minute. make test has run them on the compiled codec, and on both codecs
# what reads heads and nothing else.
test-pure: .venv/.dev programs
	@FAIRLEAD_PURE=1 $(PYTEST) -m 'not chaos and not soak' $(addprefix tests/edge/conversations/test_, \
		errors.py path_spellings.py pool.py proxy_protocol.py request_ids.py requests_forwarding.py \
		requests_reading.py response_fields.py responses.py streaming.py upgrade.py)

# And with what is around the codec compiled in the tests' own process too: a minute and a half. Where
# the codec could be compiled, so can this.
test-compiled: .venv/.dev programs
	@test -e edge/wire/_codec.*.so || { echo 'make: nothing is compiled here: see make run'; exit 0; }; \
	$(PYTEST) -p tests.compiled -m 'not slow and not chaos and not soak' tests/edge/conversations \
		tests/edge/hostile tests/edge/net tests/edge/proxy tests/edge/routing tests/edge/telemetry \
		tests/edge/upstream

# What waits for engines comes first: at the end, it would be waited for alone.
chaos: .venv/.dev programs
	@$(PYTEST) -m chaos tests/orchestrator tests/edge tests/model

fuzz: .venv/.dev
ifdef SANITIZE
	@rm -rf build/sanitized && mkdir -p build/sanitized && cp -r docs edge tests build/sanitized
	@rm build/sanitized/edge/wire/_codec.*.so
	@$(BIN)/cython -3 -o build/sanitized/_codec.c edge/wire/_codec.pyx
	@cc -O1 -g -shared -fPIC -fno-strict-aliasing $(SANITIZERS) \
		-I$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') \
		-o build/sanitized/edge/wire/_codec.so build/sanitized/_codec.c
	@cd build/sanitized && LD_PRELOAD="$$(cc -print-file-name=libasan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 ../../$(BIN)/python -m tests.edge.wire.fuzz $(FUZZ)
else
	@$(BIN)/python -m tests.edge.wire.fuzz $(FUZZ)
endif

test-cover:
	@$(MAKE) --no-print-directory test COVER=html

check: .venv/.dev .venv/.bench
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

sec: .venv/.dev
	@$(BIN)/ruff check --select S edge fairlead orchestrator bench

# pip-audit writes its report only where it has found something, and fails alike where it could ask
# nobody. Its source for PyPI's own advisories would take a mirror without any for one that knows of
# none; OSV has the same ones.
vulncheck: .venv/.dev
	@report=$$(mktemp -d) && trap 'rm -rf "$$report"' EXIT; \
	$(BIN)/pip-audit --progress-spinner=off --strict --no-deps --disable-pip -r $(CONSTRAINTS) \
		--vulnerability-service=osv $(if $(OSV_URL),--osv-url='$(OSV_URL)') \
		--output "$$report/found" 2> "$$report/said" && \
		{ tail -n 1 "$$report/said"; exit 0; }; \
	if [ -s "$$report/found" ]; then cat "$$report/found" >&2; exit 1; fi; \
	tail -n 1 "$$report/said" >&2; \
	echo 'make: nothing was checked: no advisories could be had (see the line before)' >&2; exit 3

bench: .venv/.bench
	@$(BIN)/python -m bench

soak: .venv/.bench .venv/.dev programs
	@$(BIN)/python -m bench.soak
	@$(BIN)/python -m pytest -s -m soak tests/orchestrator

# Of the package as it is now: what build/ keeps of modules that are gone would get in.
wheel: .venv/.setuptools
	@rm -rf build/lib build/lib.* build/bdist.* fairlead.egg-info
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--wheel-dir dist .
	@wheel=$$(ls -t dist/fairlead-*.whl | head -n 1); files=$$($(BIN)/python -m zipfile -l "$$wheel"); \
	for part in codec conversation; do \
		echo "$$files" | grep -q "$$part[._].*\.so" && how=compiled || how='not compiled'; \
		echo "$$wheel: $$part $$how"; done

docs: .venv/.runtime
	@$(BIN)/python -m edge.cli.config_docs docs
	@$(BIN)/python -m orchestrator.cli.config_docs docs

# In an environment of its own, so that nothing installed earlier, and no older pin, gets in.
constraints: .venv/.made
	@rm -rf .venv/.fresh
	@$(PYTHON) -m venv .venv/.fresh
	@.venv/.fresh/bin/python -m pip install --quiet --disable-pip-version-check \
		--only-binary :all: --upgrade cython mypy setuptools -e '.[dev,bench]'
	@{ echo '# Made by `make constraints`: every package of the runtime, dev and bench sets.'; \
		.venv/.fresh/bin/python -m pip freeze --all --exclude pip --exclude-editable; \
		} > $(CONSTRAINTS)
	@rm -rf .venv/.fresh

clean:
	@rm -rf .venv build dist edge/wire/_codec.c edge/wire/_codec.*.so edge/compiled/*.so \
		*.egg-info .coverage .coverage.* \
		htmlcov .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find edge orchestrator bench tests -name __pycache__ -prune -exec rm -rf {} +

# What the tests speak with that nobody here wrote: each is a command, and its Debian package where
# that has another name.
programs:
	@test "$$(id -u)" = 0 && engine='$(ENGINE)'; for program in $(PROGRAMS) $$engine; do \
		command -v $${program%:*} > /dev/null || set -- "$$@" $${program#*:}; done; \
	test $$# = 0 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
				apt-get install -qq -y --no-install-recommends "$$@"; \
		else \
			echo "make: the tests need $$*: run \"apt-get install $$*\" as root" >&2; exit 1; \
		fi > /dev/null; }

# The stamps below say what is installed; they are older than what they depend on when it changed.

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
		echo 'make: $(PYTHON) is not Python 3.11 or newer:' \
			'install one, or name one with "make PYTHON=python3.11 ..."' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo 'make: $(PYTHON) cannot make virtual environments:' \
			'run "apt-get install python3-venv" as root' >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.setuptools: .venv/.made $(CONSTRAINTS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) \
		--only-binary :all: cython mypy setuptools
	@touch $@

$(CONVERSATION): .venv/.setuptools
	@rm -f .venv/.conversation-* edge/compiled/*.so
	@touch $@

$(CODEC): .venv/.setuptools
	@rm -f .venv/.codec-* edge/wire/_codec.c edge/wire/_codec.*.so
	@touch $@

.venv/.runtime: .venv/.setuptools pyproject.toml setup.py $(CODEC) $(CONVERSATION)
	@echo 'Installing Fairlead into .venv, and compiling what each request passes through (a minute)'
	@rm -rf fairlead.egg-info # an older build's would hide the commands that have come since
	@$(INSTALL) -e .
	@if ! test -e edge/wire/_codec.*.so; then \
		echo 'There is no C compiler, or Python has no headers: the hot path is not compiled, and a' \
			'request costs two to three times the CPU ("apt-get install gcc python3-dev", then the' \
			'same again)'; \
	elif ! test -e edge/compiled/conversation_*.so; then \
		echo 'The conversation could not be compiled, and a request costs a fifth more CPU' \
			'("$(BIN)/python -m pip install -v --no-build-isolation -e ." says why)'; \
	fi
	@touch $@

.venv/.dev: .venv/.runtime
	@echo 'Installing the tools of the tests into .venv'
	@$(INSTALL) -e '.[dev]'
	@touch $@

.venv/.bench: .venv/.runtime
	@echo 'Installing the tools of the bench into .venv'
	@$(INSTALL) -e '.[bench]'
	@touch $@
