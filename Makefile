# make report: set everything up, run the pipeline, print the claims table.   make test: set up, run the suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
READY := $(VENV)/.ready

export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: report test test-fast test-exhaustive test-cluster bench setup lint clean

report: setup
	$(BIN)/snakemake --cores $(CORES)
	@$(BIN)/python -m stages.report.show

# Two workers; the tests of one module, and all that need the finished smoke pipeline, stay in one of them.
test: setup
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test-fast: setup
	$(BIN)/python -m pytest -m "not slow and not exhaustive"

test-exhaustive: setup
	$(BIN)/python -m pytest -m exhaustive

# Wants root and Debian's packages slurmctld slurmd slurm-client munge; says so and skips without them.
test-cluster: setup
	$(BIN)/python -m pytest -m cluster -rs tests/cluster

bench: setup
	$(BIN)/python -m tests.bench

setup: $(READY)
	@$(BIN)/python -m workflow.engine.data

$(READY): requirements.lock pyproject.toml
	$(PYTHON) workflow/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip check
	$(BIN)/python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'reprise.pth').write_text(str(pathlib.Path.cwd()) + '\n')"
	@touch $@

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/python -m workflow.imports

clean:
	rm -rf runs reports/.tmp .snakemake
