# Two commands: `make demo` and `make test`. Both set up .venv first; another interpreter: PYTHON=python3.12 make test.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
BIN := $(VENV)/bin
RUN := runs/ddpm_digits
STAMP := $(VENV)/.installed

# Compiled programs are kept between commands and test runs.
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0.5
# Python keeps what it compiles, too: pip compiles nothing here, because only a small part of it is ever imported.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow recipes lint setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "genmodels needs Python 3.11 or newer; set PYTHON="'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	ln -sfn $(VENV) .venv
	touch $@

demo: $(STAMP)
	$(BIN)/python -m genmodels.train --config=experiments/ddpm_digits.py --workdir=$(RUN)
	$(MAKE) --no-print-directory $(RUN)/report.html
	@echo
	@echo "Look at $(RUN)/report.html and $(RUN)/samples.png"

$(RUN)/samples.png: $(wildcard $(RUN)/checkpoints/*)
	$(BIN)/python -m genmodels.sample --workdir=$(RUN) --num=100 --out=$@

$(RUN)/eval/result.json: $(wildcard $(RUN)/checkpoints/*)
	$(BIN)/python -m genmodels.evaluate --workdir=$(RUN) --out=$@ --check || \
	  { test -f $@ && echo "short of what the experiment expects: see the report"; }

$(RUN)/report.html: $(RUN)/eval/result.json $(RUN)/samples.png
	$(BIN)/python -m genmodels.report --runs=$(RUN) --out=$@

# Two workers. Without the second flag, xdist waits for ever for the tests of a worker that crashed.
TWO := -n 2 --max-worker-restart=0

test: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest $(TWO) --dist worksteal

# TensorFlow, to prepare real TFDS data; torch and diffusers, to compare with. Where they cannot be installed, the tests
# that need them skip and say so.
$(VENV)/.tensorflow: $(STAMP)
	-$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tfds-prepare]' && touch $@

# Tests compare our formulas with theirs; --no-deps leaves out torchvision, which that does not need.
METRIC_TOOLS := clean-fid pytorch-fid torch-fidelity

$(VENV)/.parity: $(STAMP)
	-$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,parity]' && touch $@
	-$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps $(METRIC_TOOLS)

test-slow: $(VENV)/.tensorflow $(VENV)/.parity
	$(BIN)/pytest -m 'slow and not alone' $(TWO) --dist worksteal
	$(BIN)/pytest -m 'slow and alone'

# FILE[:VARIANT] of experiments that declare what they reach; those on MNIST's idx files join with MNIST=DIR and FASHION=DIR.
RECIPES := ddpm_digits ddpm_digits:linear ddpm_digits:epsilon ddpm_digits:learned classifier_digits vit_digits vit_digits:distilled vit_digits:probe \
  vae_digits gan_digits gan_digits:conditional \
  $(if $(MNIST),ddpm_mnist:small classifier_mnist vit_mnist vae_mnist_mlp vae_mnist_mlp:binarized vae_mnist vae_mnist:gaussian vae_mnist:vq vae_mnist:denoising gan_mnist gan_mnist:hinge gan_mnist:wgan_gp) $(if $(FASHION),classifier_mnist:fashion gan_mnist:fashion)

recipes: $(STAMP)
	for name in $(RECIPES); do \
	  file=experiments/$${name%%:*}.py; variant=$${name#$${name%%:*}}; out=runs/recipes/$${name/:/-}; source=; \
	  case $$name in *fashion*) source=--config.data.source=idx:$(FASHION);; *mnist*) source=--config.data.source=idx:$(MNIST);; esac; \
	  $(BIN)/python -m genmodels.train --config=$$file$$variant --workdir=$$out $$source && \
	  $(BIN)/python -m genmodels.evaluate --workdir=$$out --out=$$out/eval/result.json --check && \
	  $(BIN)/python -m genmodels.report --runs=$$out --out=$$out/report.html || exit 1; \
	done

lint: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
