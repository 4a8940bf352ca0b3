# Two commands on a fresh machine: `make quickstart` and `make test`. Both set up .venv first.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
STAMP := $(VENV)/.ready

.PHONY: setup quickstart test test-slow lint types imports bench clean

quickstart: setup
	$(BIN)/algoprog quickstart

setup: $(STAMP)

# torch first and alone, so that nothing else chooses its version; then deepspeed, whose build needs that torch. The CPU
# build of torch brings no triton, so the extra "dev" names it.
$(STAMP): pyproject.toml setup.py $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and f"error: Python {v[0]}.{v[1]} found, 3.11 or 3.12 needed; say make PYTHON=/path/to/python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) "setuptools>=77.0.3,<82" wheel packaging ninja
	$(PIP) torch numpy
	DS_BUILD_OPS=0 $(PIP) --no-build-isolation deepspeed
	$(PIP) --no-build-isolation -e ".[dev]"
	@touch $@

# A process per core, up to four: each holds torch and a prepared corpus of its own.
test: setup
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=85

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/python -m pytest -q tests/test_imports.py

# CPU seconds, so that a busy machine does not count. Peers: PYTHONPATH=folder make bench (benchmarks/README.md).
bench: setup
	@mkdir -p benchmarks/results
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks/test_scaling_speed.py -q --timeout 1800 --benchmark-timer=time.process_time \
		--benchmark-json=benchmarks/results/scaling-speed.json
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks/bench_kernels.py -q --timeout 1800 --benchmark-timer=time.process_time \
		--benchmark-json=benchmarks/results/kernels-cpu.json

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage*
