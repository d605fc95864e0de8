# Every target makes the environment that it needs by itself, from a clean checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# tensorflow-cpu is installed by name: pip cannot put it in the place of the tensorflow extra's own requirement.
TENSORFLOW := 'tensorflow-cpu>=2.18'
CONTENT.venv := -e '.[torch,dev]' $(TENSORFLOW)
CONTENT.venv-torch := -e '.[torch,dev]'
CONTENT.venv-tensorflow := -e '.[dev]' $(TENSORFLOW)

# Beside Ptychodus the package is not editable: Ptychodus finds its plugins only where a wheel puts them.
CONTENT.venv-ptychodus := '.[torch,dev,dev-ptychodus]' $(TENSORFLOW) 'ptychodus[gui]==1.7.0'
CONTENT.venv-ptychodus-1.6 := '.[torch,dev,dev-ptychodus]' 'ptychodus[gui]==1.6.0'
HOSTS := .venv-ptychodus .venv-ptychodus-1.6
SOURCES := $(shell find ptychopinn_reconstructor backends configs -name __pycache__ -prune -o -print)
HOST_TESTS := tests/host tests/gui tests/integration
BACKEND ?= torch

# The backends lie beside the package but are installed inside it: mypy sees them where they will be.
TREE := .typecheck/ptychopinn_reconstructor
TYPECHECK_TREE = rm -rf .typecheck && mkdir -p $(TREE) && cd $(TREE) && \
  ln -s ../../ptychopinn_reconstructor/* ../../backends ../../configs .
MYPY = ../$(1)/bin/mypy --config-file ../pyproject.toml --cache-dir ../$(1)/.mypy_cache

.DEFAULT_GOAL := help
.PRECIOUS: %/.installed %/.wheel
.PHONY: help install environments system-libraries test test-torch-only test-tensorflow-only test-ptychodus demo gui
.PHONY: bench quality lint format wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

install: $(STAMP) ## make .venv with the package (editable), both backends and the tools

%/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet -c constraints.txt $(CONTENT$(@D))
	touch $@

# A wheel of the present sources, installed; build/ would keep modules that are gone.
%/.wheel: %/.installed $(SOURCES)
	rm -rf build
	$(@D)/bin/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	touch $@

environments: $(STAMP) .venv-torch/.installed .venv-tensorflow/.installed $(HOSTS:=/.wheel) system-libraries

system-libraries:
	@.ci/system-libraries

test: $(STAMP) system-libraries ## run all tests; ends with the reasons of whatever was skipped
	$(BIN)/pytest

# That nothing needs the other framework: install, commands, worker, training and reconstruction, the basics of the
# conformance suite. `make test` has both frameworks and runs every numerical test with each; here they would only repeat.
ALONE := packaging architecture loading bundle commands cli_errors reconstruct worker conformance
BASICS := trained_in_one_process or its_framework or who_it_is or versions or device or results_and_events or patches_equal
test-torch-only: ## make .venv-torch, without TensorFlow, and test there that nothing needs it
test-tensorflow-only: ## make .venv-tensorflow, without PyTorch, and test there that nothing needs it
test-torch-only test-tensorflow-only: test-%-only: .venv-%/.installed
	.venv-$*/bin/python -P -c 'from ptychopinn_reconstructor import backend; assert backend.installed() == ["$*"], backend.installed()'
	.venv-$*/bin/pytest $(foreach name,$(ALONE),$(shell find tests -name 'test_$(name).py')) tests/backends/test_$*_backend.py tests/backends/test_$*_physics.py \
	  -k 'not test_conformance or TestBackends and ($(BASICS))'

# The installed wheel is tested, not the checkout: `pytest`, not `python -m pytest`, which would put the checkout first.
# Types are checked here once more, against those of Ptychodus and Qt. pytest-qt stops everything where Qt cannot load.
# The window's tests leave pictures of it in screenshots/.
INSTALLED := import ptychopinn_reconstructor as p; assert "site-packages" in p.__file__, p.__file__
test-ptychodus: export QT_QPA_PLATFORM = offscreen
test-ptychodus: $(HOSTS:=/.wheel) system-libraries ## test the wheel inside Ptychodus 1.7 and 1.6
	$(TYPECHECK_TREE)
	cd .typecheck && $(call MYPY,.venv-ptychodus) -p ptychopinn_reconstructor.host
	set -e; for folder in $(HOST_TESTS); do cd .typecheck; \
	  MYPYPATH=../tests $(call MYPY,.venv-ptychodus) ../$$folder/*.py; cd ..; done
	cd .typecheck && MYPYPATH=../tests:../tests/host $(call MYPY,.venv-ptychodus) ../benchmarks/host_figures.py
	set -e; for host in $(HOSTS); do options=; \
	  $$host/bin/python -P -c '$(INSTALLED)'; \
	  $$host/bin/python -P -c 'import PyQt5.QtWidgets' || options='-p no:pytest-qt --ignore tests/gui --ignore tests/integration'; \
	  test $$host = .venv-ptychodus || options="$$options --ignore tests/host/test_demo.py --ignore tests/host/test_examples.py"; \
	  PTYCHOPINN_SCREENSHOTS=screenshots/$${host#.venv-} $$host/bin/pytest $$options $(HOST_TESTS); done

demo: .venv-ptychodus/.wheel system-libraries ## a scripted session of Ptychodus, pictures in demo/; BACKEND=torch or tensorflow
	.venv-ptychodus/bin/python -P -m ptychopinn_reconstructor.host.demo --backend $(BACKEND) --out demo

gui: .venv-ptychodus/.wheel system-libraries ## open the window of Ptychodus on the scan of the demo
	.venv-ptychodus/bin/python -P -m ptychopinn_reconstructor.host.demo --gui --backend $(BACKEND) --out demo

bench: $(STAMP) .venv-ptychodus/.wheel system-libraries ## measure speed and memory, write benchmarks/RESULTS.md
	$(BIN)/python benchmarks/bench.py

quality: $(STAMP) ## measure the image quality on simulated and real scans
	$(BIN)/python benchmarks/quality.py

lint: $(STAMP) ## ruff, formatting, and mypy in strict mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(TYPECHECK_TREE)
	cd .typecheck && $(call MYPY,.venv) -p ptychopinn_reconstructor
	cd .typecheck && MYPYPATH=../tests:../benchmarks $(call MYPY,.venv) ../tests ../benchmarks

format: $(STAMP) ## let ruff mend imports and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP) ## build wheel and sdist in dist/
	rm -rf build dist
	$(BIN)/pyproject-build --no-isolation .

clean: ## remove everything that the other targets made, environments included
	rm -rf .venv .venv-* .typecheck .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist demo screenshots *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
