# Set-up, tests and experiments. Needs python3 (3.11 or newer) and make; everything is installed into .venv.
#
#   make test                               install, lint and test
#   make test-all                           the same, and the slow tests, those with Ray and with lm-evaluation-harness, in
#                                           .venv-all
#   make test-faults                        kills, full disks, damaged files and the like, drawn anew every time
#   make audit                              known weaknesses of what nvreg depends on; skipped without a connection
#   make test-lowest                        the tests with the lowest versions that nvreg allows, in .venv-lowest
#   make test-newest                        with the newest versions that there are, in .venv-newest
#   make dist                               build wheel and sdist in dist, and run the tests of the sdist on the wheel, in
#                                           .venv-dist
#   make image [DEVICE=cuda]                the wheel as an image of Docker (Dockerfile)
#   make reproduce [SUITE=NAME]             run every experiment under experiments/SUITE (embedded, paper, real) in
#                                           results/runs/SUITE, with tables and figures; of the embedded suite, compare them
#                                           with results/embedded and fail where a verdict flips. RIVALS=no leaves out the
#                                           models that are fine-tuned
#   make results [SUITE=NAME]               the same, then overwrite results/SUITE, and what README.md quotes of it
#   make readme                             quote results/embedded and results/real in README.md and docs
#   make architectures [TYPES="..."]        try every model type of the installed Transformers (or these), and write the table
#                                           that nvreg architectures prints
#   make restated                           write digests of the attention of the installed Transformers, by which conversion
#                                           warns, once the tests of nvreg/models pass on that version
#   make demo                               train the models that come with nvreg anew, into nvreg/demo/checkpoints
#   make docs                               the documentation as a site in results/site (mkdocs serve shows it)
#   make bench                              speed and memory beside the unconverted model
#   make bench DEVICE=cuda                  the same on a GPU: longer texts, more rows, and decoding compiled
#
# TESTS=tests/report, say, has any of these run some tests alone.
#
# Package indexes, where the defaults of pip are not wanted:
#
#   make test PIP_INDEX_URL=https://mirror.example/simple
#   make test TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu     PyTorch without CUDA (a small download)

PYTHON ?= python3
TORCH_INDEX_URL ?=
TESTS ?=
DEVICE ?= cpu
SUITE ?= embedded
RIVALS ?= yes

BIN := .venv/bin
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
INSTALLED := .venv/.stamp-installed
TORCH := .venv/.stamp-torch
PYTEST := pytest -n 2 --dist loadfile
INSTALL := python -m pip install -q
EXTRAS := finetune,quantise
PINS_all := constraints.txt
PINS_lowest := constraints-lowest.txt
EXTRAS_all := $(EXTRAS),lm-eval,ray
EXPERIMENTS := $(filter-out $(if $(filter no,$(RIVALS)),%/rivals.yaml),$(wildcard experiments/$(SUITE)/*.yaml))
RUNS := $(EXPERIMENTS:experiments/%.yaml=results/runs/%)
TASKS := $(filter-out rivals,$(patsubst experiments/embedded/%.yaml,%,$(wildcard experiments/embedded/*.yaml)))
TUNINGS := plain guided-dropout mvcr
TUNED := results/runs/embedded/finetuning
RIVAL_RUNS := results/runs/embedded/rivals
SOURCES := $(shell find nvreg -name '*.py')
DEMO := $(shell find nvreg/demo -name '*.py' -o -name '*.safetensors')

# Two runs at a time, unless -j says otherwise, and plain lines of progress: two live displays would share a terminal.
ifeq ($(SUITE),embedded)
MAKEFLAGS += --jobs=2
results/%: export TTY_COMPATIBLE := 0
endif

.PHONY: install test test-fast test-all test-faults test-lowest test-newest lint audit docs dist image bench reproduce results readme \
	architectures restated demo clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

test test-fast: $(INSTALLED)
	$(BIN)/$(PYTEST) $(TESTS)

test: lint

# What Ray does when its workers die is tried here, where it is installed.
test-all: test .venv-all/.stamp-installed
	.venv-all/bin/$(PYTEST) -m '(slow or ray or lm-eval) and not (gpu or hub) and (ray or not faults)' $(TESTS)

test-lowest: .venv-lowest/.stamp-installed
	$(<D)/bin/$(PYTEST) $(TESTS)

# All attention that nvreg restates is compared with a new release of Transformers, not one class of each layout.
test-newest: .venv-newest/.stamp-installed
	$(<D)/bin/$(PYTEST) $(TESTS)
	$(if $(TESTS),,$(<D)/bin/pytest -m slow tests/models/test_restated.py)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SITE) --quiet

docs: $(INSTALLED)
	$(SITE)

audit: $(INSTALLED)
	$(BIN)/python -m scripts.audit

# Every run draws its faults anew; NVREG_FAULTS_SEED draws those of a run before.
test-faults: $(INSTALLED)
	seed=$${NVREG_FAULTS_SEED:-$$(date +%s)}; echo "NVREG_FAULTS_SEED=$$seed"; \
	NVREG_FAULTS_SEED=$$seed $(BIN)/pytest -n 2 -m 'faults and not ray' tests

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(if $(DEVICE),--device $(DEVICE))

reproduce: $(RUNS:%=%/.stamp)
	$(if $(EXPERIMENTS),,$(error no experiment in experiments/$(SUITE); suites: $(notdir $(wildcard experiments/*))))
ifeq ($(SUITE),embedded)
	$(BIN)/python -m scripts.compare results/embedded results/runs/embedded $(TASKS) \
		$(if $(filter %/rivals,$(RUNS)),--tuned rivals)
endif

results: $(RUNS:%=%/.stamp)
ifeq ($(SUITE),real)
	$(BIN)/python -m scripts.real results/runs/real results/real
else
	set -e; for run in $(RUNS:results/runs/%=%); do \
		rm -rf results/$$run; mkdir -p results/$$run; \
		cp results/runs/$$run/tables/*.md results/runs/$$run/tables/*.csv results/runs/$$run/*/*.png results/$$run/; \
	done
endif
ifneq ($(SUITE),paper)
	$(BIN)/python -m scripts.readme
endif

readme: $(INSTALLED)
	$(BIN)/python -m scripts.readme

architectures: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.architectures $(TYPES)
	$(BIN)/python -m scripts.readme

restated: $(INSTALLED)
	$(BIN)/python -m scripts.restated

demo: $(INSTALLED)
	$(BIN)/nvreg demo results/trained --train
	$(BIN)/python -m scripts.checkpoints results/trained

clean:
	rm -rf .venv* dist .hypothesis .mypy_cache .pytest_cache .ruff_cache results/demo results/runs results/site results/trained

$(TORCH):
	$(PYTHON) -m venv .venv
	$(BIN)/$(INSTALL) $(TORCH_INDEX_URL:%=--index-url %) $$(grep '^torch==' constraints.txt)
	touch $@

# Groups of dependencies are read by pip 25.1 and later.
$(INSTALLED): $(TORCH) pyproject.toml constraints.txt
	$(BIN)/$(INSTALL) 'pip>=25.1'
	$(BIN)/$(INSTALL) -c constraints.txt -e '.[$(EXTRAS)]' --group dev
	touch $@

.venv-%/.stamp-installed: pyproject.toml constraints.txt constraints-lowest.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/$(INSTALL) 'pip>=25.1'
	$(@D)/bin/$(INSTALL) $(TORCH_INDEX_URL:%=--index-url %) $(if $(PINS_$*),$$(grep '^torch==' $(PINS_$*)),torch)
	$(@D)/bin/$(INSTALL) $(PINS_$*:%=-c %) -e '.[$(or $(EXTRAS_$*),$(EXTRAS))]' --group test
	touch $@

# What users install is tested, with the tests that they get, beside no package of a checkout.
dist: $(INSTALLED)
	rm -rf dist .venv-dist
	$(BIN)/python -m build
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/$(INSTALL) 'pip>=25.1'
	.venv-dist/bin/$(INSTALL) $(TORCH_INDEX_URL:%=--index-url %) $$(grep '^torch==' constraints.txt)
	.venv-dist/bin/$(INSTALL) -c constraints.txt "$$(ls dist/*.whl)[$(EXTRAS)]" --group test
	mkdir .venv-dist/sdist
	tar -xzf dist/nvreg-*.tar.gz -C .venv-dist/sdist --strip-components=1
	rm -r .venv-dist/sdist/nvreg
	.venv-dist/bin/nvreg --version
	cd .venv-dist/sdist && ../bin/$(PYTEST) $(TESTS)

# The wheel of make dist, as it is.
image:
	$(if $(wildcard dist/*.whl),,$(error no wheel in dist; make dist builds and tests one))
	docker build --build-arg DEVICE=$(DEVICE) --tag nvreg:$(DEVICE) .

# A new demo is a new model and new data: the run on the old one is void.
results/demo/.stamp-%: $(DEMO) | $(INSTALLED)
	rm -rf results/demo/$* results/runs/embedded/$* $(if $(filter classification,$*),$(TUNED) $(RIVAL_RUNS))
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

$(TUNINGS:%=$(RIVAL_RUNS)/%/.stamp): $(RIVAL_RUNS)/%/.stamp: experiments/embedded/rivals.yaml $(TUNED)/%/.stamp $(SOURCES)
	set -e; for seed in 1 2 3; do \
		$(BIN)/nvreg sweep --config $< --output $(@D)/seed-$$seed $(if $(filter plain,$*),,--method nv) \
			--set model.path=../../$(TUNED)/$*/seed-$$seed --set sweep.seeds=[$$seed]; \
	done
	touch $@

$(RIVAL_RUNS)/.stamp: $(TUNINGS:%=$(RIVAL_RUNS)/%/.stamp)
	$(BIN)/nvreg report $(foreach tuning,$(TUNINGS),$(RIVAL_RUNS)/$(tuning)/seed-*) --output $(RIVAL_RUNS)/tables --force
	touch $@

# The sweep itself decides which trials are still valid.
results/runs/%/.stamp: experiments/%.yaml $(SOURCES) | $(INSTALLED)
	$(BIN)/nvreg sweep --config $< --output results/runs/$*
	$(BIN)/nvreg report results/runs/$*
	touch $@
