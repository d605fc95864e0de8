# Every target makes the environment that it needs by itself, from a clean checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

CONTENT := -e '.[torch,tensorflow-cpu,onnx,dev]'

# Beside Ptychodus a wheel of ours is installed, not the checkout: Ptychodus finds its plugins only where a wheel puts
# them. These environments see the packages of .venv, and Ptychodus 1.6 those of 1.7, by a .pth file: frameworks are
# installed once.
HOST := .venv-ptychodus
OLD_HOST := .venv-ptychodus-1.6
PEER := .venv-pty-chi
HOSTS := $(HOST) $(OLD_HOST)
SITE = $$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
SEES = $(PYTHON) -m venv --without-pip $(1) && for other in $(2); do echo $(call SITE,$$other); done > $(call SITE,$(1))/seen.pth
SOURCES := $(shell find ptychopinn_reconstructor backends configs examples -name __pycache__ -prune -o -print)
HOST_TESTS := tests/host tests/gui tests/integration

# The demo needs one backend only: an environment of its own, with no tools and no other framework.
BACKEND ?= torch
DEMO := .venv-demo-$(BACKEND)
DOCS := .venv-docs
FRAMEWORK = $(if $(filter torch,$(BACKEND)),torch,$(if $(filter tensorflow,$(BACKEND)),tensorflow-cpu,\
  $(error BACKEND is $(BACKEND); choose torch or tensorflow)))

# The backends lie beside the package but are installed inside it: mypy sees them where they will be.
TREE := .typecheck/ptychopinn_reconstructor
TYPECHECK_TREE = rm -rf .typecheck && mkdir -p $(TREE) && cd $(TREE) && \
  ln -s ../../ptychopinn_reconstructor/* ../../backends ../../configs .
MYPY = ../$(1)/bin/python -m mypy --config-file ../pyproject.toml --cache-dir ../$(1)/.mypy_cache

.DEFAULT_GOAL := help
.PRECIOUS: %/.installed %/.wheel
.PHONY: help install environments system-libraries window-libraries test test-all test-torch-only test-tensorflow-only
.PHONY: test-ptychodus test-ptychodus-all test-pty-chi demo gui bench quality harden coverage mutation lint format wheel
.PHONY: docs docs-links docs-pictures pretrained
.PHONY: test-oldest test-newest release clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

install: $(STAMP) ## make .venv with the package (editable), both backends and the tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $(CONTENT)
	touch $@

$(HOST)/.installed: $(STAMP)
	$(call SEES,$(HOST),.venv)
	$(HOST)/bin/python -m pip install --quiet -c constraints.txt 'ptychodus[gui]==1.7.0' 'pytest-qt>=4.4'
	touch $@

$(OLD_HOST)/.installed: $(HOST)/.installed
	$(call SEES,$(OLD_HOST),$(HOST) .venv)
	$(OLD_HOST)/bin/python -m pip install --quiet --no-deps 'ptychodus==1.6.0'
	touch $@

# Wheels of torchvision load only beside a PyTorch of their kind, with CUDA or without; tests/beside_pty_chi stands in.
$(PEER)/.installed: $(HOST)/.installed
	$(call SEES,$(PEER),$(HOST) .venv)
	$(PEER)/bin/python -m pip install --quiet -c constraints.txt '.[peer]'
	$(PEER)/bin/python -m pip uninstall --quiet --yes torchvision
	touch $@

$(DEMO)/.installed: pyproject.toml constraints.txt
	@echo 'Installing Ptychodus 1.7 with its window, this package and $(FRAMEWORK) into $(DEMO), once: about 2 GB on disk with PyTorch,' \
	  'half a GB more with TensorFlow, several more where pip brings a framework for GPUs'
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet -c constraints.txt '.[$(FRAMEWORK)]' 'ptychodus[gui]==1.7.0' 'setuptools>=77'
	@du -sh $(DEMO) | sed 's/\t/ on disk: /'
	touch $@

$(DOCS)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet -e '.[docs]'
	touch $@

# A wheel of the present sources, installed; build/ would keep modules that are gone.
%/.wheel: %/.installed $(SOURCES)
	rm -rf build
	$(@D)/bin/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	touch $@

environments: $(STAMP) $(HOSTS:=/.wheel) system-libraries

system-libraries:
	@.ci/system-libraries

window-libraries:
	@.ci/system-libraries window

# Without compiled files kept, each process of the tests would compile our modules and rewrite its asserts anew.
export PYTHONDONTWRITEBYTECODE =

# A worker on each core; the tests of a file share a worker, and with it their trainings.
PYTEST := -m pytest -n auto --dist loadfile

test: $(STAMP) system-libraries ## the tests of every day, minutes; ends with the reasons of whatever was skipped
	$(BIN)/python -P $(PYTEST) -m 'not slow' --hypothesis-profile repeated

test-all: $(STAMP) system-libraries ## every test there is: an hour or so
	$(BIN)/python -P $(PYTEST)
	$(MAKE) test-torch-only test-tensorflow-only test-ptychodus-all test-pty-chi docs

# The lowest releases that pyproject.toml allows of what it names, and the newest of everything; uv finds both.
%-oldest/.installed: RESOLUTION = lowest-direct
%-newest/.installed: RESOLUTION = highest
.venv-oldest/.installed .venv-newest/.installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet 'uv>=0.5'
	$(@D)/bin/python -m uv pip install --quiet --python $(@D)/bin/python --resolution $(RESOLUTION) $(CONTENT)
	touch $@

test-oldest: .venv-oldest/.installed system-libraries ## the tests of every day with the lowest releases that are allowed
test-newest: .venv-newest/.installed system-libraries ## the same with the newest releases that there are
test-oldest test-newest: test-%:
	.venv-$*/bin/python -P -m ptychopinn_reconstructor doctor
	.venv-$*/bin/python -P $(PYTEST) -m 'not slow' --hypothesis-profile repeated

# That nothing needs the other framework: it is hidden (tests/refused); tests that hide one themselves need both.
ALONE := tests/backend tests/conformance tests/cli/test_commands.py tests/worker/test_worker.py
test-torch-only: export PTYCHOPINN_REFUSE = tensorflow keras
test-tensorflow-only: export PTYCHOPINN_REFUSE = torch lightning
test-torch-only: $(STAMP) ## commands, worker and conformance where TensorFlow cannot be imported
test-tensorflow-only: $(STAMP) ## commands, worker and conformance where PyTorch cannot be imported
test-torch-only test-tensorflow-only:
	PYTHONPATH=$(CURDIR)/tests/refused $(BIN)/python -P $(PYTEST) -m 'not slow' -k 'not missing_framework and not backend_lacks' $(ALONE)

# The installed wheel is tested, not the checkout: `-P` keeps that off the path. pytest-qt stops everything where Qt
# cannot load. The window's tests leave pictures of it in screenshots/.
INSTALLED := import ptychopinn_reconstructor as p; assert "site-packages" in p.__file__, p.__file__
WITHOUT_QT := -p no:pytest-qt --ignore tests/gui --ignore tests/integration
HOST_PYTEST = PTYCHOPINN_SCREENSHOTS=screenshots/$(1:.venv-%=%) $(1)/bin/python -P $(PYTEST) $(2) \
  $$($(1)/bin/python -P -c 'import PyQt5.QtWidgets' || echo '$(WITHOUT_QT)')
test-ptychodus test-ptychodus-all: export QT_QPA_PLATFORM = offscreen
test-ptychodus: $(HOSTS:=/.wheel) system-libraries ## inside Ptychodus 1.7: sessions, window, installation; 1.6: a session
	for host in $(HOSTS); do $$host/bin/python -P -c '$(INSTALLED)' || exit; done
	$(call HOST_PYTEST,$(HOST),-m 'not slow') $(HOST_TESTS)
	$(call HOST_PYTEST,$(OLD_HOST),-m 'smoke and not slow') $(HOST_TESTS)

test-ptychodus-all: $(HOSTS:=/.wheel) system-libraries ## every test inside Ptychodus 1.7 and 1.6
	$(call HOST_PYTEST,$(HOST)) $(HOST_TESTS)
	$(call HOST_PYTEST,$(OLD_HOST)) $(HOST_TESTS) --ignore tests/host/test_demo.py --ignore tests/host/test_examples.py

test-pty-chi: $(PEER)/.wheel ## Pty-Chi, 110 MB of packages, and ours after each other in one session of Ptychodus 1.7
	$(PEER)/bin/python -P $(PYTEST) -p no:pytest-qt tests/host/test_beside_pty_chi.py

demo: $(DEMO)/.wheel system-libraries ## a scripted session of Ptychodus, pictures in demo/; BACKEND=torch or tensorflow
	$(DEMO)/bin/python -P examples/demo.py --backend $(BACKEND) --out demo

gui: $(DEMO)/.wheel window-libraries ## open the window of Ptychodus on the scan of the demo
	$(DEMO)/bin/python -P examples/demo.py --gui --backend $(BACKEND) --out demo

bench: $(STAMP) $(HOST)/.wheel system-libraries ## measure speed and memory, write benchmarks/RESULTS.md
	$(BIN)/python benchmarks/bench.py

quality: $(STAMP) ## measure the image quality on simulated and real scans; ARGS=--list names the cases
	$(BIN)/python benchmarks/quality.py $(ARGS)

SPHINX = $(DOCS)/bin/python -P -m sphinx -W --keep-going -E -q -c docs/_site -d site/.doctrees
docs: $(DOCS)/.installed ## build the documentation in site/ and run its examples; a warning is an error
	$(SPHINX) -b html . site
	$(SPHINX) -b doctest . site/.doctest

docs-links: $(DOCS)/.installed ## try the addresses of other sites that the documentation names; needs a network
	$(SPHINX) -b linkcheck . site/.links

# The tests of the window make them; what a page shows is what a user sees.
PICTURES := finished:ptychodus window-pinn:panel running:training pretraining:pretraining reliability:reliability diagnosis:diagnosis
docs-pictures: export QT_QPA_PLATFORM = offscreen
docs-pictures: $(HOST)/.wheel system-libraries ## take the pictures of the documentation anew
	$(call HOST_PYTEST,$(HOST)) tests/gui
	set -e; for pair in $(PICTURES); do cp screenshots/ptychodus/$${pair%:*}.png docs/$${pair#*:}.png; done

pretrained: $(STAMP) ## train the learned step anew from its seed, half an hour on one core; goes on where it was stopped
	PYTHONPATH=benchmarks $(BIN)/python -m learning.train --work learning/training
	PYTHONPATH=benchmarks $(BIN)/python -m learning.check --work learning/check

# Types are checked once against the installed Ptychodus and Qt, a folder of its tests at a time, since each has its own
# conftest.
harden: $(STAMP) ## hours of attacks on files, requests, disks and processes; ARGS='--minutes 60 --report' goes on later
	PYTHONPATH=tests $(BIN)/python -m harden.campaign $(ARGS)

# Child processes are measured by a .pth file of coverage, which a folder that is only seen does not pass on.
MEASURE := -m coverage run --rcfile=$(CURDIR)/pyproject.toml --data-file=$(CURDIR)/.coverage
coverage: export QT_QPA_PLATFORM = offscreen
coverage: $(STAMP) $(HOST)/.wheel system-libraries ## branches of the package that the tests of every day run
	$(BIN)/python -m coverage erase
	cp $(call SITE,.venv)/a1_coverage.pth $(call SITE,$(HOST))/
	$(BIN)/python -P $(MEASURE) $(PYTEST) -m 'not slow'
	$(HOST)/bin/python -P $(MEASURE) $(PYTEST) -m 'not slow' $(HOST_TESTS)
	$(BIN)/python -m coverage combine
	$(BIN)/python -m coverage report --skip-covered --sort=cover

mutation: $(STAMP) ## how many of some hundred small changes of io, model_file and worker the tests see; ARGS=--help
	PYTHONPATH=tests $(BIN)/python -m mutation.campaign $(or $(ARGS),--map --seed 1 --report)

lint: $(HOST)/.installed ## ruff, formatting, mypy in strict mode; that specifications and tests name each other
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -P -m pytest -q tests/test_specs.py
	$(TYPECHECK_TREE)
	cd .typecheck && $(call MYPY,$(HOST)) -p ptychopinn_reconstructor
	cd .typecheck && MYPYPATH=../tests:../benchmarks $(call MYPY,$(HOST)) ../tests ../benchmarks
	set -e; cd .typecheck; for folder in $(HOST_TESTS); do MYPYPATH=../tests $(call MYPY,$(HOST)) ../$$folder/*.py; done
	cd .typecheck && MYPYPATH=../tests:../tests/host $(call MYPY,$(HOST)) ../benchmarks/host_figures.py

format: $(STAMP) ## let ruff mend imports and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP) ## build wheel and sdist in dist/
	rm -rf build dist
	$(BIN)/pyproject-build --no-isolation .

release: $(STAMP) ## build a release, try it where nothing else is installed, list what comes with it, tag it
	.ci/release

clean: ## remove everything that the other targets made, environments included
	rm -rf .venv .venv-* .typecheck .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist demo screenshots site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
