# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv, installs what it needs, and runs.
# A second call is quick; a changed pyproject.toml installs again. Needs Python 3.11 or newer with venv, and make.

PYTHON  ?= python3
WORKERS ?= auto
KILLS   ?= 1000

VENV := .venv
BIN  := $(VENV)/bin
SOURCES := src tests tools benchmarks examples

.PHONY: demo test integrations check fuzz kills mutants bench bench-gpu clean
.NOTPARALLEL:

demo: $(VENV)/.installed-cli
	$(BIN)/affinet demo

# One thread a worker: the cores are shared out between the workers, and small tensors gain nothing from more.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
		$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal

# Rules in trainers and under optimizers of other packages, a small training each: the extra `trainers`.
integrations: $(VENV)/.installed-trainers
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
		$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=loadfile tests/integrations

check: $(VENV)/.installed-check
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/run_documents.py README.md docs/*.md docs/gallery/*.md
	$(BIN)/python tools/check_wheel.py

# MINUTES of processor time for each target; TARGET=mat takes one. What is found lies in tests/fuzz/findings/.
MINUTES ?= 24
fuzz: $(VENV)/.installed-fuzz
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 POLARS_MAX_THREADS=1 \
		$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(TARGET),--target $(TARGET))

# Runs that are killed at random moments and gone on with; the tests do twenty kills.
kills: $(VENV)/.installed-cli
	$(BIN)/python tools/kill_runs.py --kills $(KILLS)

# Which tests hold which line of structure and kernels. SAMPLE=all is everything: days of one core.
SAMPLE ?= 400
SEED   ?= 1
mutants: export OMP_NUM_THREADS = 1
mutants: export MKL_NUM_THREADS = 1
mutants: export OPENBLAS_NUM_THREADS = 1
mutants: $(VENV)/.installed-mutation
	test -f build/mutants/coverage.json || $(BIN)/python -m tools.mutants --measure
	$(BIN)/python -m tools.mutants --sample $(SAMPLE) --seed $(SEED)

# BENCH="--quick --only rows" looks at less; only a run of everything is saved.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(BENCH)

bench-gpu: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks --device cuda $(BENCH)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "affinet needs Python 3.11 or newer; this is %s. Say which: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

# One stamp for each extra of pyproject.toml: cli, test, trainers, check, fuzz, mutation, bench.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$*]'
	@touch $@
