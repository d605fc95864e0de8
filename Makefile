# Every target makes the environment that it needs by itself, from a clean checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TREE := .typecheck/ptychopinn_reconstructor

# tensorflow-cpu is installed by name: pip cannot put it in the place of the tensorflow extra's own requirement.
TENSORFLOW := 'tensorflow-cpu>=2.18'
CONTENT.venv := -e '.[torch,dev]' $(TENSORFLOW)
CONTENT.venv-torch := -e '.[torch,dev]'
CONTENT.venv-tensorflow := -e '.[dev]' $(TENSORFLOW)

.DEFAULT_GOAL := help
.PHONY: help install test test-torch-only test-tensorflow-only demo bench quality lint format wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

install: $(STAMP) ## make .venv with the package (editable), both backends and the tools

%/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet -c constraints.txt $(CONTENT$(@D))
	touch $@

test: $(STAMP) ## run all tests; ends with the reasons of whatever was skipped
	$(BIN)/pytest

test-torch-only: ## make .venv-torch, without TensorFlow, and run all tests that need no TensorFlow there
test-tensorflow-only: ## make .venv-tensorflow, without PyTorch, and run all tests that need no PyTorch there
test-torch-only test-tensorflow-only: test-%-only: .venv-%/.installed
	.venv-$*/bin/python -P -c 'from ptychopinn_reconstructor import backend; assert backend.installed() == ["$*"], backend.installed()'
	.venv-$*/bin/pytest

demo: $(STAMP) ## simulate, train, then reconstruct in a new process; pictures in demo/
	$(BIN)/ptychopinn demo --out demo

bench: $(STAMP) ## measure speed and memory, write tests/benchmarks/RESULTS.md
	$(BIN)/python tests/benchmarks/bench.py

quality: $(STAMP) ## measure the image quality on simulated and real scans
	$(BIN)/python tests/benchmarks/quality.py

# The backends lie beside the package but are installed inside it: mypy sees them where they will be.
lint: $(STAMP) ## ruff, formatting, and mypy in strict mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .typecheck && mkdir -p $(TREE)
	cd $(TREE) && ln -s ../../ptychopinn_reconstructor/* ../../backends ../../configs .
	cd .typecheck && ../$(BIN)/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p ptychopinn_reconstructor
	cd .typecheck && ../$(BIN)/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache ../tests

format: $(STAMP) ## let ruff mend imports and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP) ## build wheel and sdist in dist/
	rm -rf build dist
	$(BIN)/pyproject-build --no-isolation .

clean: ## remove everything that the other targets made, environments included
	rm -rf .venv .venv-torch .venv-tensorflow .typecheck .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist demo *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
