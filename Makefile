# Each target does all of its own set-up. `make` alone lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TORCH_INDEX ?=
RUNNER ?= process

.DEFAULT_GOAL := help
.PHONY: help demo images test check format stop clean lock

help: ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(READY) $(if $(filter docker,$(RUNNER)),images) ## Run the main job on this machine: data to signed model on an endpoint and devices.
	@$(BIN)/python -m slimline.embedded.demo --runner $(RUNNER) $(DEMO_ARGS)

images: $(READY) ## Build the container images: all, or IMAGES="torch onnx"; see images/build.py.
	@$(BIN)/python -m images.build $(if $(TORCH),--torch $(TORCH)) $(IMAGES)

test: $(READY) ## Run all tests.
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(TEST_ARGS)

check: $(READY) ## Lint, check the format and the types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint --config images/.hadolint.yaml images/*/Dockerfile

format: $(READY) ## Bring the code into the project's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stop: ## Stop every process that the demo left running.
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m slimline.embedded.stop; fi

clean: stop ## Remove everything that was made here, the virtual environment too.
	rm -rf images/lock.json* images/sbom images/wheelhouse
	rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf components/*.egg-info

lock: $(READY) ## Write requirements.lock from what is installed.
	@infra/lock.sh $(BIN)/pip

$(READY): requirements.lock pyproject.toml infra/setup.sh
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" infra/setup.sh $(VENV)
	@touch $(READY)
