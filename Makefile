PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is imported is compiled then; all of it would take longer than the rest of the install.
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
SOURCES := pyproject.toml kernels/pyproject.toml constraints.txt

# Where this is set, every process that starts would compile torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test bench nightly lint docs clean

demo: $(VENV)/.installed
	$(BIN)/tfa-perf demo

# Much of a run is waiting for processes that start; a file's tests share what they set up.
# OpenMP's idle threads sleep: spinning, they take the cores from the tests beside them.
test: export OMP_WAIT_POLICY = passive
# Models under test are tiny, and several processes of a test share the cores with another's.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pytest benchmarks --benchmark-compare

# Each part by itself, and the processes that it may take: make nightly-fuzz JOBS=16
JOBS ?= 2
NIGHTLY := nightly-long nightly-fuzz nightly-bounds nightly-coverage nightly-tbb nightly-triton
.PHONY: $(NIGHTLY)
$(NIGHTLY): export OMP_WAIT_POLICY = passive
$(NIGHTLY): export NUMBA_NUM_THREADS = 2
nightly: $(NIGHTLY)

nightly-long: $(VENV)/.installed-dev
	$(PIP) kernels
	$(BIN)/python -m pytest -m nightly

# 20,000 examples of each, in as many processes of as many seeds.
nightly-fuzz: $(VENV)/.installed-dev
	seq $(JOBS) | TFA_PERF_FUZZ_EXAMPLES=$$((20000 / $(JOBS) + 1)) xargs -P $(JOBS) -I SEED \
		$(BIN)/python -m pytest --hypothesis-seed SEED -p no:cacheprovider \
		tests/kernels/test_fuzz.py tests/kernels/test_fuzz_attention.py \
		tests/kernels/test_fuzz_encoder.py tests/kernels/test_fuzz_user_ops.py

nightly-bounds: $(VENV)/.installed-dev
	rm -rf $(VENV)/checked
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(VENV)/checked \
		$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal tests/kernels

nightly-coverage: $(VENV)/.installed-dev
	rm -f .coverage.*
	NUMBA_DISABLE_JIT=1 TFA_PERF_FUZZ_EXAMPLES=100 $(BIN)/python -m coverage run \
		-m pytest --numprocesses $(JOBS) --dist worksteal tests/kernels
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under 95

nightly-tbb: $(VENV)/.installed-dev
	$(PIP) --prefix $(VENV)/tbb tbb
	LD_LIBRARY_PATH=$(VENV)/tbb/lib $(BIN)/python -c "from numba.np.ufunc import tbbpool"
	LD_LIBRARY_PATH=$(VENV)/tbb/lib $(BIN)/python -m pytest tests/kernels/test_jit_policy.py -k tbb

# Triton's interpreter does not know the numpy of the rest.
nightly-triton: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --no-compile --upgrade --target $(VENV)/triton \
		triton==3.6.0 numpy==2.3.5
	TRITON_INTERPRET=1 PYTHONPATH=$(VENV)/triton $(BIN)/python -m pytest tests/interpreted

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
