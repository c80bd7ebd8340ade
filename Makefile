# rs-studio. `make studio` opens it, `make test` tests it, `make help` lists the rest.

PYTHON    ?= python3
WS        ?= ./myworkspace
VENV      := .venv
BIN       := $(VENV)/bin
STUDIO    := $(BIN)/rs-studio

RECIPE    ?= lora
DATA      ?=
MODEL     ?= starter
PROMPT    ?= satellite image of mountains
COUNT     ?= 6
RSICD     ?=
export PROMPT

# Compiled files are what makes the second start fast: a setting of the caller that forbids them is not passed on.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help studio test check fix build image bash train inference preload-model starter clean

help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

studio: $(VENV)/.studio  ## Open the studio on WS (./myworkspace); the first time, make .venv and install
	@$(STUDIO) "$(WS)"

test: $(VENV)/.test  ## Run the tests (ARGS="-m soak -n 0" for others than the default ones)
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test  ## Formatting, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fix: $(VENV)/.test  ## Format, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build: $(VENV)/.test  ## Build the wheel into dist/
	$(BIN)/hatchling build --target wheel

image:  ## Build the container image rs-studio
	docker build --tag rs-studio .

bash: $(VENV)/.studio  ## A shell with rs-studio on its path
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash

train: $(VENV)/.studio  ## Train RECIPE on DATA, a data set of WS
	@$(if $(DATA),,$(error DATA is missing: make train DATA=name, after `rs-studio $(WS) import FOLDER --as name`))
	$(STUDIO) "$(WS)" train --recipe "$(RECIPE)" --data "$(DATA)"

preload-model: $(VENV)/.studio  ## Bring MODEL, a hub id or a .safetensors file, into WS, to work without a network
	$(STUDIO) "$(WS)" model add "$(MODEL)"

inference: $(VENV)/.studio  ## Generate COUNT tiles of PROMPT with MODEL
	$(STUDIO) "$(WS)" generate --model "$(MODEL)" --prompt "$$PROMPT" --count $(COUNT)

starter: $(VENV)/.studio  ## Train the starter model again from RSICD, a folder in the hub's layout: five hours on one core
	@$(if $(RSICD),,$(error RSICD is missing: make starter RSICD=folder with data/train-00000-of-00001.parquet))
	$(STUDIO) ./starter-workspace import "$(RSICD)" --as rsicd --hold-out 500
	for recipe in starter-autoencoder starter-draft starter-scenes; do \
		$(STUDIO) ./starter-workspace train --recipe $$recipe --data rsicd --name $$recipe || exit; done
	cp ./starter-workspace/runs/*-starter-scenes/checkpoints/step-*/scenes/* workspace_template/models/scenes/
	$(STUDIO) ./starter-workspace train --recipe starter-text --data rsicd --name starter-text
	$(STUDIO) ./starter-workspace train --recipe starter --data rsicd --name starter-unet
	$(STUDIO) ./starter-workspace export starter-unet --to model ./starter-workspace/starter
	cd ./starter-workspace/starter && cp -r model_index.json studio.json scheduler text_encoder tokenizer unet vae \
		"$(CURDIR)/workspace_template/models/starter/"
	chmod -R a+r workspace_template/models

clean:  ## Remove what was built and cached; .venv and workspaces stay
	rm -rf build dist .import_linter_cache .hypothesis .mypy_cache .pytest_cache .ruff_cache snapshot_report.html
	find studio screens workspace_template tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed in place, so that an edit counts at the next start and tests run against this checkout.
# The version is read from studio/__init__.py.
$(VENV)/.studio: pyproject.toml studio/__init__.py | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@$(BIN)/python -m compileall -q studio screens
	@touch $@

$(VENV)/.test: pyproject.toml studio/__init__.py | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[test]'
	@$(BIN)/python -m compileall -q studio screens
	@touch $(VENV)/.studio $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit("rs-studio needs Python 3.11 or newer. Try: make PYTHON=python3.12 studio" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
