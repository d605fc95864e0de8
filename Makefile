# Every target makes what it needs in .venv by itself, from a clean checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TREE := .typecheck/ptychopinn_reconstructor

.DEFAULT_GOAL := help
.PHONY: help install test demo bench quality lint format wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

install: $(STAMP) ## make .venv with the package (editable), the PyTorch backend and the tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[torch,dev]'
	touch $@

test: $(STAMP) ## run all tests; ends with the reasons of whatever was skipped
	$(BIN)/pytest

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

clean: ## remove everything that the other targets made, .venv included
	rm -rf .venv .typecheck .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist demo *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
