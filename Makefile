# Two commands on a fresh machine: `make quickstart` and `make test`. Both set up .venv first.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
STAMP := $(VENV)/.ready

.PHONY: setup quickstart test test-slow coverage faults audit lint types imports bench csrc csrc-check clean

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
TESTS := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal --durations 15

test: setup
	$(TESTS)

# Apart from `make test`: before Python 3.12 tracing lines makes the suite take a third longer.
coverage: setup
	$(TESTS) --cov --cov-report=term:skip-covered --cov-fail-under=85

# All of the fault suite: kills, full disks, flipped bits, ten thousand fuzzed files. An hour on two cores.
faults: setup
	$(BIN)/python -m pytest tests/faults -n 0 -m "slow or not slow" --timeout 7200

# Known vulnerabilities where pip-audit is installed and reaches its data; else only that what is installed is what was pinned.
audit: setup
	$(BIN)/python .ci/audit.py $(CONSTRAINTS)

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

# CUDA C++ for Hopper: build every kernel into the cache; compile each and hold it to its budgets. Skipped without nvcc.
csrc: setup
	$(BIN)/python csrc/build.py

csrc-check: setup
	$(BIN)/python csrc/check.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage*
