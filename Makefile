# `make help` lists the targets. Everything runs in .venv, which is made when it is missing.
PYTHON ?= python3
TABLE ?= embedded
CONSTRAINTS ?= constraints.txt
FER = .venv/bin/fer

OVERRIDES = $(if $(DATA),data=$(DATA)) $(if $(ROOT),data.root=$(ROOT)) $(if $(WEIGHTS),backbone.weights=$(WEIGHTS)) \
            $(if $(STORE),data.store=$(STORE)) $(if $(TRAINER),trainer=$(TRAINER)) $(ARGS)

.PHONY: help install reproduce-table plan-table test coverage test-faults test-slurm test-slurm-faults test-gpu rooms lint types check bench bench-gpu smoke-gpu clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo
	@echo "  With data: make reproduce-table TABLE=ngo2020 DATA=affectnet ROOT=/data/AffectNet \\"
	@echo "             WEIGHTS=senet50.safetensors STORE=/scratch/fer TRAINER=ddp ARGS='trainer.devices=4'"
	@echo "  The newest packages that pyproject.toml allows, in place of those of constraints.txt: make CONSTRAINTS= install"

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "fer_lightning needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	@echo "installing PyTorch and the other packages into .venv: several minutes the first time"
	.venv/bin/python -m pip install --quiet --editable '.[dev]' $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	@touch $@

install: .venv/installed ## make .venv and install into it

reproduce-table: .venv/installed ## run TABLE (embedded), only what is missing; print it and say where it lies
	$(FER) table run $(TABLE) $(strip $(OVERRIDES))

plan-table: .venv/installed ## say what TABLE would run, and what time and disk it needs
	$(FER) table plan $(TABLE) $(strip $(OVERRIDES))

test: .venv/installed ## run the tests, two at a time
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: .venv/installed ## run the tests and print which lines they reach, child processes included
	.venv/bin/python -m pytest -n 2 --dist loadfile --cov --cov-report=term

test-faults: .venv/installed ## run the tests that take minutes: sweeps killed at random moments, torchrun as two nodes
	.venv/bin/python -m pytest -m 'faults and not slurm' -s

test-slurm: .venv/installed ## run the tests that need a SLURM on one of their own; needs root, slurm-wlm and munge
	tests/slurm/private_slurm.sh .venv/bin/python -m pytest -m 'slurm and not faults' tests/slurm || \
	  { code=$$?; test $$code = 77 && echo "the tests that need a SLURM are skipped"; }

test-slurm-faults: .venv/installed ## the same with time limits, requeues and random faults
	tests/slurm/private_slurm.sh .venv/bin/python -m pytest -s -m 'slurm and faults' tests/slurm

test-gpu: .venv/installed ## run the tests that need a GPU
	.venv/bin/python -m pytest -m gpu

rooms: .venv/installed ## print the rooms of the package and the imports between them
	.venv/bin/python tests/rooms.py

lint: .venv/installed ## ruff: rules and format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/installed ## mypy --strict on the package
	.venv/bin/mypy

check: lint types test ## lint, types and tests

bench: .venv/installed ## on the CPU: heads, loading, large data sets and tables, frozen backbones, shared stages, many runs, intervals, exports
	.venv/bin/python experiments/benchmarks/heads.py
	.venv/bin/python experiments/benchmarks/loading.py
	.venv/bin/python experiments/benchmarks/scale.py
	.venv/bin/python experiments/benchmarks/annotations.py
	.venv/bin/python experiments/benchmarks/frozen.py
	.venv/bin/python experiments/benchmarks/kept_activations.py
	.venv/bin/python experiments/benchmarks/sharing.py
	.venv/bin/python experiments/benchmarks/many_runs.py
	.venv/bin/python experiments/benchmarks/coverage.py
	.venv/bin/python experiments/benchmarks/export.py

bench-gpu: .venv/installed ## training throughput against a bare loop, on a GPU
	.venv/bin/python experiments/benchmarks/throughput.py

smoke-gpu: .venv/installed ## try every way of running on a GPU, in ten minutes; ARGS='--device cpu' is a dry run without one
	.venv/bin/python experiments/benchmarks/smoke_gpu.py --out runs/smoke-gpu.json $(ARGS)

clean: ## remove .venv; runs/ and the cache stay
	rm -rf .venv
