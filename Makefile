# Set-up, tests and experiments. Needs python3 (3.11 or newer) and make; everything is installed into .venv.
#
#   make test                               install, lint and test
#   make reproduce [SUITE=embedded|paper]   every experiment under experiments/SUITE; tables and figures in results/SUITE
#
# Package indexes, where the defaults of pip are not wanted:
#
#   make test PIP_INDEX_URL=https://mirror.example/simple
#   make test TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu     PyTorch without CUDA (a small download)

PYTHON ?= python3
TORCH_INDEX_URL ?=
SUITE ?= embedded

BIN := .venv/bin
INSTALLED := .venv/.stamp-installed
TORCH := .venv/.stamp-torch
EXPERIMENTS := $(wildcard experiments/$(SUITE)/*.yaml)
EMBEDDED := $(patsubst experiments/%.yaml,results/runs/%/.stamp,$(wildcard experiments/embedded/*.yaml))
SOURCES := $(shell find nvreg -name '*.py')

.PHONY: install test lint bench reproduce clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

test: lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

reproduce: $(EXPERIMENTS:experiments/%.yaml=results/runs/%/.stamp)
	$(if $(EXPERIMENTS),,$(error no experiment in experiments/$(SUITE); suites: $(notdir $(wildcard experiments/*))))

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache results/demo results/runs

$(TORCH):
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) $$(grep '^torch==' constraints.txt)
	touch $@

$(INSTALLED): $(TORCH) pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

# A new demo is a new model and new data: the run on the old one is void.
results/demo/.stamp-%: $(wildcard nvreg/demo/*.py) | $(INSTALLED)
	rm -rf results/demo/$* results/runs/embedded/$*
	$(BIN)/nvreg demo results/demo --task $*
	touch $@

# The built-in models are too small for threads, and give the same numbers on any number of cores.
$(EMBEDDED): export OMP_NUM_THREADS := 1
$(EMBEDDED): results/runs/embedded/%/.stamp: results/demo/.stamp-%

# The sweep itself decides which trials are still valid.
results/runs/%/.stamp: experiments/%.yaml $(SOURCES) | $(INSTALLED)
	$(BIN)/nvreg sweep --config $< --output results/runs/$*
	$(BIN)/nvreg report results/runs/$*
	mkdir -p results/$*
	cp results/runs/$*/tables/*.md results/runs/$*/tables/*.csv results/runs/$*/figures/*.png results/$*/
	touch $@
