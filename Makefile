# The commands of this project. Each installs what it needs; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
VIDEOS ?=
# Test files run side by side, each whole in one process: its fixtures are made once.
JOBS ?= 2
TURN ?= commit
# After that, whatever is under way: a run that is cut off from outside tells nothing.
MINUTES ?= 70
TORCH := 2.13.0
# A process that dies ends the run, with its report; in its place nothing would end at all.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart=0

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format lock audit clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

demo: $(VENV)/.installed ## The whole job on real video (VIDEOS=DIR for your own); then open runs/demo/index.html
	@$(BIN)/python -m demo.run --run "$(RUN)" --videos "$(VIDEOS)"

test: $(VENV)/.installed-dev ## The fast tests
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.installed-dev ## With the slow tests whose turn it is, a quarter at each commit; TURN=all for all
	$(PYTEST) --durations=25 --turn=$(TURN) --minutes=$(MINUTES) $(ARGS)

lint: $(VENV)/.installed-dev ## Formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/.installed-dev ## Format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Resolve requirements/*.in anew into the lock files
	$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install -q uv
	./requirements/compile.sh $(VENV)-lock/bin/uv

# --strict: a package that the database does not know is a failure, not a line that nobody reads.
audit: ## Look up known vulnerabilities of all locked packages (needs the network)
	$(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install -q pip-audit==2.10.1
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/base.lock
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/dev.lock
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/tpu.lock
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/cuda13.lock
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/beam.lock
	echo torch==$(TORCH) | $(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps -r /dev/stdin

clean: ## Remove the environment and the demo's results
	rm -rf $(VENV) $(VENV)-lock $(VENV)-audit runs

$(VENV)/.installed: requirements/base.lock setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Installing into $(VENV) (once, about two minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# torch is named apart from the lock: the CPU build has another hash than the one with CUDA. --no-deps,
# since the lock is whole, and leaves out what scenedetect asks for and has already (opencv-python).
$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check torch==$(TORCH)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock
	@touch $@
