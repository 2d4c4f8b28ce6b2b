# Everything happens in .venv, which the first target that needs it makes. `make demo` and `make test` need nothing but Python and make.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; print("$(p)" if (3, 11) <= sys.version_info < (3, 14) else "")' 2>/dev/null)))
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo demo-forest test test-slow orchestrators lint format bench-spine bench-driver bench-memory bench-start bench-checks bench-text bench-forest bench-telling bench-backfill bench-quick bench-peers bench-scale drift-table golden-kernels kernel-table mutants gpu-check clean

help:
	@echo 'make demo          3 million card transactions with real dirt: made, and scored by a model fitted on the spot'
	@echo 'make demo-forest   the same transactions, scored by trees of LightGBM, with the reasons of each score'
	@echo 'make test          the default suite'
	@echo 'make test-slow     what takes long, too'
	@echo 'make orchestrators a real Airflow and a real Dagster over days with every sort of trouble, some minutes'
	@echo 'make lint          ruff and mypy'
	@echo 'make bench-spine   our job beside the hand loop and Ray Data, in one run'
	@echo 'make bench-text    embedding texts beside sentence-transformers and Ray Data, in one run'
	@echo 'make bench-forest  boosted trees beside their own library and Ray Data, in one run'
	@echo 'make bench-backfill a backfill of a year of days beside one run over the same rows'
	@echo 'make bench-quick   calls, operators, bytes and instructions of small pieces, beside the committed counts'
	@echo 'make bench-peers   all of it beside Ray Data, Daft, PySpark and others, two hours, into docs/performance.md; QUICK=1 tries it'
	@echo 'make bench-scale   lanes, slices, plans and resumed runs of one driver, 20 minutes; QUICK=1 tries it: docs/scaling.md'
	@echo 'make bench-driver  the cost of the driver for each slice'
	@echo 'make bench-memory  the memory of a lane after 1 and after 20 million rows'
	@echo 'make bench-start   the time from Ray being up to the first scored rows'
	@echo 'make drift-table   false alarms and power of the drift decision, written into docs/drift.md'
	@echo 'make bench-checks  the cost of all checks, beside the same run without them'
	@echo 'make bench-telling the time until published with each sort of trouble in telling, beside nobody to tell'
	@echo 'make gpu-check     kernels and a lane on this GPU: parity, configurations, times; needs no .venv'
	@echo 'make golden-kernels kernel-table   what the compiler makes of the kernels, and the table of kernels/README.md'
	@echo 'make mutants       kernels made wrong on purpose: each must make a test fail'
	@echo 'make clean         remove what make made, .venv too'

# Torch first and by itself: a machine that has it already, or a build of its own choice, keeps it.
$(READY): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'Python 3.11, 3.12 or 3.13 is needed and none was found; say which: make PYTHON=/path/to/python3 …' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet -c constraints.txt torch==2.13.0
	$(PIP) install --quiet -c constraints.txt -e '.[test,lint]'
	$(PIP) install --quiet --no-deps --upgrade --target .venv/triton-3.6.0 triton==3.6.0
	@touch $@

.venv/.bench: $(READY)
	$(PIP) install --quiet -c constraints.txt -e '.[bench]'
	@touch $@

# Contenders whose pins do not go with ours. What they do not bring themselves they find in .venv.
.venv-peers/.ready: .venv/.bench benchmarks/peers/requirements.txt
	$(BIN)/python -m venv .venv-peers
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	.venv-peers/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r benchmarks/peers/requirements.txt
	@touch $@

# Orchestrators, for tests that are slow: each with its own pins. They need neither torch nor this package: its path is enough.
.venv-airflow/.ready .venv-dagster/.ready: .venv-%/.ready: deploy/%/requirements.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r $<
	@touch $@

orchestrators: $(READY) .venv-airflow/.ready .venv-dagster/.ready
	$(BIN)/python -m pytest -m 'slow or not slow' tests/orchestrators

demo: $(READY)
	$(BIN)/scoring demo-data out=.demo
	$(BIN)/scoring run job=demo

# As with a model of your own: it is imported, its training rows are counted for drift, and it scores. An import is made anew.
demo-forest: $(READY)
	$(BIN)/scoring demo-data out=.demo
	$(BIN)/python benchmarks/demo_forest.py .demo/forest
	rm -rf .demo/forest/bundle
	$(BIN)/scoring models import-forest .demo/forest/model.txt sample=.demo/forest/december.parquet explain=3 \
		out=.demo/forest/bundle name=card-fraud-forest version=2025.12
	$(BIN)/scoring baseline .demo/forest/december.parquet bundle=.demo/forest/bundle
	$(BIN)/scoring run job=demo-forest

# Three processes, for tests wait, too; files are not torn apart, so that what a module's tests share is made once, and keep their
# order: by number of tests the longest would come last.
test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-spine: .venv/.bench
	$(BIN)/python benchmarks/spine.py

bench-text: .venv/.bench
	$(BIN)/python benchmarks/text.py

bench-forest: .venv/.bench
	$(BIN)/python benchmarks/forest.py

bench-backfill: .venv/.bench
	$(BIN)/python benchmarks/backfill.py

bench-quick: .venv/.bench
	$(BIN)/python benchmarks/quick.py

# Goes on where it was interrupted, on the same day.
bench-peers: .venv-peers/.ready
	$(BIN)/python benchmarks/compare.py $(if $(QUICK),--quick)

bench-scale: .venv/.bench
	$(BIN)/python benchmarks/scale.py $(if $(QUICK),--quick) $(if $(SCRATCH),--scratch $(SCRATCH))

bench-driver: .venv/.bench
	$(BIN)/python benchmarks/driver_cost.py

bench-memory: .venv/.bench
	$(BIN)/python benchmarks/lane_memory.py

bench-start: .venv/.bench
	$(BIN)/python benchmarks/start_up.py

# On a bare GPU machine: the Python that has torch there, or that of .venv. Writes to the folder OUT, else to benchmarks/results.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
gpu-check:
	$(GPU_PYTHON) benchmarks/gpu_check.py

kernel-table: $(READY)
	$(BIN)/python benchmarks/kernel_table.py

# Registers, spills, shared memory and instructions of every kernel, for both releases of Triton: read the difference.
golden-kernels: $(READY)
	$(BIN)/python tests/kernels/ahead.py --write > /dev/null & \
	PYTHONPATH=.venv/triton-3.6.0 $(BIN)/python tests/kernels/ahead.py --write > /dev/null && wait
	git diff --stat tests/kernels/golden

# Kernels made wrong on purpose: each must make a test fail.
mutants: $(READY)
	$(BIN)/python tests/kernels/mutants.py

drift-table: $(READY)
	$(BIN)/python benchmarks/drift_table.py

bench-checks: .venv/.bench
	$(BIN)/python benchmarks/checks.py

bench-telling: .venv/.bench
	$(BIN)/python benchmarks/telling.py

clean:
	rm -rf .venv .venv-peers .venv-airflow .venv-dagster .demo .bench .pytest_cache .ruff_cache .mypy_cache .hypothesis dist *.egg-info
