# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv, installs what it needs, and runs.
# A second call is quick; a changed pyproject.toml installs again. Needs Python 3.11 or newer with venv, and make.

PYTHON  ?= python3
WORKERS ?= auto
KILLS   ?= 1000
# The versions that CI has and that a newcomer gets; CONSTRAINTS= takes the newest instead.
CONSTRAINTS ?= constraints/ci.txt
TENSORFLOW_CONSTRAINTS ?= $(if $(CONSTRAINTS),constraints/tensorflow.txt)

VENV := .venv
BIN  := $(VENV)/bin
# TensorFlow and torch crash in one process: an environment without torch (2 GB), for `make integrations`.
TENSORFLOW := .venv-tensorflow
SOURCES := src tests tools benchmarks examples

.PHONY: demo quick test rounding processors integrations check docs browser long loggers oldest constraints fuzz kills mutants bench bench-gpu clean
.NOTPARALLEL:

demo: $(VENV)/.installed-cli
	$(BIN)/affinet demo

# One thread a worker: the cores are shared out between the workers, and small tensors gain nothing from more.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST := -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal

test: $(VENV)/.installed-test
	$(ONE_THREAD) $(BIN)/python $(PYTEST)

# A loop for whoever edits: one dtype of the table of rules, the language, planning, kernels and errors, in less than a
# minute. Paths are named one by one, since importing all test files takes longer than these tests.
QUICK := tests/contract/test_projections.py tests/system tests/test_style.py \
	tests/language/test_expression.py tests/language/test_operations.py tests/language/test_text.py \
	tests/language/test_mistakes.py tests/language/test_weights.py tests/language/test_terms.py \
	tests/blocks/test_places.py tests/blocks/test_regular.py tests/blocks/test_offsets.py \
	tests/planning/reading tests/planning/elimination tests/planning/test_compilation.py tests/plans/test_plan.py \
	tests/kernels/test_blocks.py tests/kernels/test_small.py tests/kernels/test_projector.py \
	tests/training/test_attaching.py tests/training/test_reparametrize.py tests/errors
quick: $(VENV)/.installed-test
	$(ONE_THREAD) $(BIN)/python $(PYTEST) $(QUICK) -k "not float32 and not bfloat16"

# What rounding may change: kernels, factors, and the table of rules through every kernel.
ROUNDED := tests/kernels tests/blocks tests/planning/factors tests/planning/overlaps tests/contract/test_projections.py \
	--ignore=tests/kernels/test_processes.py --ignore=tests/kernels/test_threads.py

# The same tests with factors rounded at random, as another processor would (tests/rounding.py).
ROUNDING ?= 1
rounding: $(VENV)/.installed-test
	AFFINET_ROUNDING=$(ROUNDING) $(ONE_THREAD) $(BIN)/python $(PYTEST) $(ROUNDED)

# The same tests with the loops that OpenBLAS, MKL and torch have for other x86-64 processors; elsewhere these settings
# change nothing.
processors: $(VENV)/.installed-test
	for core in Nehalem Sandybridge Haswell Zen SkylakeX; do \
		OPENBLAS_CORETYPE=$$core ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE $(ONE_THREAD) \
			$(BIN)/python $(PYTEST) $(ROUNDED) || exit 1; \
	done

# Rules in trainers and under optimizers of other packages, a small training each: the extra `trainers`, and `keras-tf`
# in an environment of its own. Then the pages that declare an extra which `make check` does not have. `make test` skips
# what two more files say of packages that it does not install.
ALSO_WITH_TRAINERS := tests/test_api_sources.py tests/cli/files/test_stored_weights.py
PAGES := README.md docs/*.md docs/coming-from/*.md docs/gallery/*.md
QUIET_TENSORFLOW := KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3
integrations: $(VENV)/.installed-trainers $(TENSORFLOW)/.installed
	$(ONE_THREAD) TENSORFLOW_PYTHON=$(abspath $(TENSORFLOW))/bin/python \
		$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=loadfile tests/integrations $(ALSO_WITH_TRAINERS)
	$(QUIET_TENSORFLOW) $(TENSORFLOW)/bin/python tools/run_documents.py --extra keras-tf $(PAGES)

check: $(VENV)/.installed-check
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/run_documents.py --passed build/pages.json $(PAGES)
	$(BIN)/python tools/check_wheel.py

# The documentation as a site, build/site/index.html, and its notebooks with their outputs, build/notebooks/. Warnings are errors; the pages' blocks are run by `make check`.
docs: $(VENV)/.installed-docs
	rm -rf build/site
	$(BIN)/python -m sphinx -q -W --keep-going -b html -c docs -d build/site-trees . build/site
	$(BIN)/python -m tools.check_site build/site
	$(ONE_THREAD) $(BIN)/python -m tools.run_notebooks build/notebooks docs/notebooks/*.ipynb

# Pages in headless Chromium: the one that CHROMIUM names, or that is here, or Debian's, installed where root runs make.
browser: $(VENV)/.installed-browser
	path="$$($(BIN)/python tools/find_chromium.py)" && CHROMIUM="$$path" $(ONE_THREAD) \
		$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=2 --dist=loadfile tests/browser

# What takes longer than CI may: run by hand before a change to rounding, planning or versions is called done.
long: $(VENV)/.installed-test $(VENV)/.installed-check $(VENV)/.installed-trainers $(TENSORFLOW)/.installed
	$(BIN)/python tools/run_documents.py $(PAGES)
	$(ONE_THREAD) $(BIN)/python -m tests.properties.consistent 10000
	AFFINET_NEARLY_REDUNDANT=300 $(ONE_THREAD) $(BIN)/python $(PYTEST) \
		tests/planning/test_nearly_redundant.py tests/kernels/test_extremes.py
	AFFINET_JAX_PRODUCT=1 $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal \
		tests/integrations/test_jax_contract.py tests/integrations/test_jax_sets.py \
		tests/integrations/test_optax_optimizers.py tests/integrations/test_optax_reparametrization.py
	AFFINET_KERAS_PRODUCT=1 TENSORFLOW_PYTHON=$(abspath $(TENSORFLOW))/bin/python $(ONE_THREAD) $(BIN)/python \
		-m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal tests/integrations/test_keras_contract.py \
		tests/integrations/test_keras_diabetes.py tests/integrations/test_keras_options.py
	AFFINET_SHARDS=1 $(ONE_THREAD) $(BIN)/python -m pytest tests/shards/test_contract_on_shards.py
	$(MAKE) loggers
	for seed in 2 3 4 5; do $(MAKE) rounding ROUNDING=$$seed || exit 1; done
	$(MAKE) processors
	$(MAKE) kills KILLS=100
	$(MAKE) oldest

# Watched trainings written to Weights & Biases and MLflow, offline. A venv of its own: both bring what others pin.
loggers:
	$(PYTHON) -m venv build/loggers
	build/loggers/bin/python -m pip install --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[watch]'
	AFFINET_LOGGERS=1 $(ONE_THREAD) build/loggers/bin/python -m pytest tests/adapters

# The oldest versions that pyproject.toml promises, in an environment of their own: 5 GB, removed by `make clean`.
OLDEST_PYTHON ?= python3.11
oldest:
	$(OLDEST_PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install --disable-pip-version-check --constraint constraints/oldest.txt --editable '.[test]'
	$(ONE_THREAD) build/oldest/bin/python $(PYTEST)

# The newest versions become those that CI has: needs the oldest promised Python. A venv of its own, as for a newcomer.
constraints:
	rm -rf build/newest
	$(OLDEST_PYTHON) -m venv build/newest
	build/newest/bin/python -m pip install --disable-pip-version-check --editable '.[test,check,trainers,docs,browser]'
	build/newest/bin/python tools/pin_versions.py test check trainers docs browser > build/newest.txt
	mv build/newest.txt constraints/ci.txt
	rm -rf build/tensorflow
	$(OLDEST_PYTHON) -m venv build/tensorflow
	build/newest/bin/python tools/pin_versions.py --requirements cli keras-tf tensorboard > build/tensorflow/requirements.txt
	build/tensorflow/bin/python -m pip install --disable-pip-version-check --upgrade packaging setuptools \
		--requirement build/tensorflow/requirements.txt
	build/tensorflow/bin/python tools/pin_versions.py cli keras-tf tensorboard > build/tensorflow.txt
	mv build/tensorflow.txt constraints/tensorflow.txt

# MINUTES of processor time for each target; TARGET=mat takes one. What is found lies in tests/fuzz/findings/.
MINUTES ?= 24
fuzz: $(VENV)/.installed-fuzz
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 POLARS_MAX_THREADS=1 \
		$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(TARGET),--target $(TARGET))

# Runs that are killed at random moments and gone on with; the tests do twenty kills, and three of two processes.
KILLS_OF_TWO ?= 100
kills: $(VENV)/.installed-cli
	$(BIN)/python tools/kill_runs.py --kills $(KILLS)
	$(BIN)/python tools/kill_runs.py --kills $(KILLS_OF_TWO) --processes 2

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
	rm -rf $(VENV) $(TENSORFLOW) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "affinet needs Python 3.11 or newer; this is %s. Say which: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

# One stamp for each extra of pyproject.toml: cli, test, trainers, check, docs, browser, fuzz, mutation, bench.
$(VENV)/.installed-%: pyproject.toml src/affinet/_version.py $(CONSTRAINTS) | $(BIN)/pip
	$(BIN)/python -m pip install --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[$*]'
	@touch $@

$(TENSORFLOW)/.installed: pyproject.toml src/affinet/_version.py $(TENSORFLOW_CONSTRAINTS) | $(VENV)/.installed-trainers
	$(PYTHON) -m venv $(TENSORFLOW)
	$(BIN)/python tools/pin_versions.py --requirements cli keras-tf tensorboard > $(TENSORFLOW)/requirements.txt
	$(TENSORFLOW)/bin/python -m pip install --disable-pip-version-check \
		$(if $(TENSORFLOW_CONSTRAINTS),--constraint $(TENSORFLOW_CONSTRAINTS)) --requirement $(TENSORFLOW)/requirements.txt
	$(TENSORFLOW)/bin/python -m pip install --disable-pip-version-check --no-deps --editable .
	@touch $@
