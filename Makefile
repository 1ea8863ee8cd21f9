# Everything sets itself up: a virtual environment in .venv, then what is asked for.
VENV ?= .venv
RANGE := (3, 11) <= sys.version_info[:2] <= (3, 13)
# The first that runs (a version manager's stand-in may not), is in range and can make environments.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell \
	$(name) -c 'import sys, venv, ensurepip; sys.exit(not $(RANGE))' >/dev/null 2>&1 && command -v $(name))))
BIN := $(VENV)/bin
DEMO ?= runs/demo
MESSAGES ?= 100000
SEED ?= 1
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable chrome
ORTHANC_DICOMWEB := /usr/share/orthanc/plugins/libOrthancDicomWeb.so
# The tests share the cores with the processes that they start: torch must not spin on all in each of them.
TEST_ENV := OMP_NUM_THREADS=1
# Files of tests are dealt out to so many processes, in the order that tests/conftest.py gives; 0 runs them in this one.
WORKERS ?= 4
PYTEST = $(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: setup browser pacs demo test test-all test-gpu test-light check bench soak fuzz layers settings protos clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@python="$(PYTHON)"; \
	if [ -e $(BIN) ]; then \
		python=$(BIN)/python; \
		$$python -c 'import sys; sys.exit(not $(RANGE))' 2>/dev/null || { \
			echo "the Python of $(VENV) is gone, or not one from 3.11 to 3.13; 'make clean' removes $(VENV)" >&2; exit 1; }; \
	fi; \
	[ -n "$$python" ] || { echo "no Python from 3.11 to 3.13 with venv was found; install one (on Debian python3 and" \
		"python3-venv), or name one: make setup PYTHON=/opt/python3.12/bin/python3" >&2; exit 1; }; \
	$$python -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# For the tests of the report's pages: a Chromium that is there, or else Debian's, or else a word about it.
browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq >/dev/null && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	then echo "installed chromium for the tests of the report's pages"; \
	else echo "no Chromium or Chrome on the path: the tests of the report's pages are skipped until you install one"; fi

# For the tests of a hospital's PACS: an Orthanc with DICOMweb that is there, or else Debian's, which is not started as a
# service, or else a word about it.
pacs:
	@! command -v Orthanc >/dev/null || [ ! -e $(ORTHANC_DICOMWEB) ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq >/dev/null && \
	DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb \
	>/dev/null; then echo "installed Orthanc for the tests of a hospital's PACS"; \
	if command -v systemctl >/dev/null; then systemctl disable --now orthanc >/dev/null 2>&1 || :; fi; \
	else echo "no Orthanc with DICOMweb here: the tests of a hospital's PACS are skipped until you install one"; fi

# Three hospitals, a coordinator and a compute node as five processes, on real CIFAR-10 pictures.
demo: setup
	$(BIN)/mple data fetch cifar10
	rm -rf $(DEMO)
	$(BIN)/mple simulate examples/demo.toml --out $(DEMO)

test: setup browser pacs
	$(PYTEST) -m 'not slow'

test-all: setup browser pacs
	$(PYTEST)

# Those that need a CUDA device; without one each is skipped, with the reason.
test-gpu: setup
	$(TEST_ENV) $(BIN)/python -m pytest -m gpu tests/gpu

# Those that need no torch, on each other supported Python that is found.
test-light: setup
	VENV=$(VENV) .ci/light

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# All benchmarks but the soak, one after the other: hours. One of them: make bench-wire. Those that this machine can't
# run say why and end with code 77.
bench: setup
	for name in $$($(BIN)/mple bench); do [ $$name = soak ] || $(BIN)/mple bench $$name || [ $$? = 77 ] || exit 1; done

bench-%: setup
	$(BIN)/mple bench $* || [ $$? = 77 ]

# Mutated messages over every call, to all three parties: about ten minutes for 100,000.
fuzz: setup
	$(TEST_ENV) $(BIN)/python -m tests.fuzz --messages $(MESSAGES) --seed $(SEED) --out results/fuzz.json

# Half an hour of feeding at full rate: memory, descriptors and threads of both processes.
soak: setup
	$(BIN)/python -m benchmarks.soak

# The page of all settings, from the dataclasses that configuration files are read into.
settings: setup
	$(BIN)/python -m docs.settings_page

# The table of layers in the page on architecture, from the one that the tests use.
layers: setup
	$(BIN)/python -m tests.support.levels

protos: setup
	$(BIN)/python protos/generate.py

clean:
	rm -rf $(VENV) .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
