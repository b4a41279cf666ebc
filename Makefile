PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is imported is compiled then; all of it would take longer than the rest of the install.
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
SOURCES := pyproject.toml kernels/pyproject.toml constraints.txt

.PHONY: demo test bench nightly lint docs clean

demo: $(VENV)/.installed
	$(BIN)/tfa-perf demo

# Much of a run is waiting for processes that start; a file's tests share what they set up.
# OpenMP's idle threads sleep: spinning, they take the cores from the tests beside them.
test: export OMP_WAIT_POLICY = passive
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pytest benchmarks --benchmark-compare

nightly: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m nightly
	TFA_PERF_FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest tests/kernels/test_fuzz.py
	rm -rf $(VENV)/checked
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(VENV)/checked $(BIN)/python -m pytest tests/kernels
	NUMBA_DISABLE_JIT=1 TFA_PERF_FUZZ_EXAMPLES=100 $(BIN)/python -m coverage run \
		--include '*/tfa_kernels/_*_nb.py' -m pytest tests/kernels
	$(BIN)/python -m coverage report --fail-under 95
	$(PIP) --target $(VENV)/tbb tbb
	LD_LIBRARY_PATH=$(VENV)/tbb/lib $(BIN)/python -m pytest tests/kernels/test_jit_policy.py -k tbb

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The theme announces its successor on every build.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) runs profiles

$(VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable ./kernels --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable ./kernels --editable '.[dev,docs]'
	touch $@
