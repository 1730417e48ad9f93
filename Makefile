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
TASKS := $(filter-out rivals,$(patsubst experiments/embedded/%.yaml,%,$(wildcard experiments/embedded/*.yaml)))
TUNINGS := plain guided-dropout mvcr
TUNED := results/runs/embedded/finetuning
RIVALS := results/runs/embedded/rivals
SOURCES := $(shell find nvreg -name '*.py')

# Two runs at a time, unless -j says otherwise, and plain lines of progress: two live displays would share a terminal.
ifeq ($(SUITE),embedded)
MAKEFLAGS += --jobs=2
results/%: export TTY_COMPATIBLE := 0
endif

.PHONY: install test lint bench reproduce clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

test: lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

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
	rm -rf results/demo/$* results/runs/embedded/$* $(if $(filter classification,$*),$(TUNED) $(RIVALS))
	$(BIN)/nvreg demo results/demo --task $*
	touch $@

# The built-in models are too small for threads, and give the same numbers on any number of cores.
results/runs/embedded/%: export OMP_NUM_THREADS := 1
$(TASKS:%=results/runs/embedded/%/.stamp): results/runs/embedded/%/.stamp: results/demo/.stamp-%

# Three ways of fine-tuning, three seeds each; on every checkpoint the methods that need no training, beyond plain
# fine-tuning NV alone; one table of all.
$(TUNED)/fisher.json: results/demo/.stamp-classification
	mkdir -p $(@D)
	$(BIN)/nvreg fisher results/demo/classification/pretrained $@ --limit 500 \
		--data results/demo/classification/general/train.jsonl --column text

$(TUNED)/guided-dropout/.stamp: $(TUNED)/fisher.json

$(TUNINGS:%=$(TUNED)/%/.stamp): $(TUNED)/%/.stamp: experiments/embedded/finetuning/%.yaml results/demo/.stamp-classification
	$(BIN)/nvreg finetune --config $<
	touch $@

$(TUNINGS:%=$(RIVALS)/%/.stamp): $(RIVALS)/%/.stamp: experiments/embedded/rivals.yaml $(TUNED)/%/.stamp $(SOURCES)
	set -e; for seed in 1 2 3; do \
		$(BIN)/nvreg sweep --config $< --output $(@D)/seed-$$seed $(if $(filter plain,$*),,--method nv) \
			--set model.path=../../$(TUNED)/$*/seed-$$seed --set sweep.seeds=[$$seed]; \
	done
	touch $@

$(RIVALS)/.stamp: $(TUNINGS:%=$(RIVALS)/%/.stamp)
	$(BIN)/nvreg report $(foreach tuning,$(TUNINGS),$(RIVALS)/$(tuning)/seed-*) --output $(RIVALS)/tables
	mkdir -p results/embedded/rivals
	cp $(RIVALS)/tables/*.md $(RIVALS)/tables/*.csv $(RIVALS)/tables/*.png results/embedded/rivals/
	touch $@

# The sweep itself decides which trials are still valid.
results/runs/%/.stamp: experiments/%.yaml $(SOURCES) | $(INSTALLED)
	$(BIN)/nvreg sweep --config $< --output results/runs/$*
	$(BIN)/nvreg report results/runs/$*
	mkdir -p results/$*
	cp results/runs/$*/tables/*.md results/runs/$*/tables/*.csv results/runs/$*/figures/*.png results/$*/
	touch $@
