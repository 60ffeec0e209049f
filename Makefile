# Needs Python 3.10+, make and, for the compiled extension, a C++20 compiler. Everything else goes into $(VENV).
# Stamps in $(VENV) keep a second run quick; a change in csrc/ compiles again.
PYTHON ?= python3
VENV ?= .venv
# Without an NVIDIA GPU this version is asked for by name; set TORCH to take another build or version.
TORCH ?= $(if $(shell nvidia-smi -L 2>/dev/null),torch>=2.10,torch==2.13.0)
# There the GPU kernels run in an interpreter that is made for this release; with a GPU, torch brings its own.
TRITON ?= $(if $(filter Linux,$(shell uname)),$(if $(shell nvidia-smi -L 2>/dev/null),,triton==3.9.0))
# Two processes of one thread each beat one of two; the tests that are about threads set their own.
PYTEST_ARGS ?= --numprocesses=2 --dist=worksteal
BENCH_ARGS ?=
# A CUDA build of torch (5.5 GB), and an environment for it that `make clean` leaves alone.
CUDA_TORCH ?= torch==2.14.1
CUDA_VENV ?= .venv-cuda
CUDA_WHEEL_ARGS ?=
GATES_ARGS ?=
CUDA_GATES_ARGS ?=

BIN := $(VENV)/bin
SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.h' 2>/dev/null) setup.py $(wildcard scripts/build_*.py)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
IN_VENV := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: help test gates bench bench-quick demo build deps dev lint types docs wheel audit smoke cuda-wheel clean
help:
	@echo "make test         set up $(VENV), compile, run the tests        (PYTEST_ARGS='-k hard')"
	@echo "make gates        compile every GPU kernel for every target, without a GPU, and record what it counts"
	@echo "make bench        set up $(VENV), compile, run the benchmark    (BENCH_ARGS='--full')"
	@echo "make bench-quick  the same at small sizes"
	@echo "make demo         train on real data with every loss; tables and pictures in examples/results"
	@echo "make lint types docs    formatting and lint, type check, every example and link of the documentation"
	@echo "make wheel audit smoke  build dist/*.whl, inspect it, run it in a fresh environment"
	@echo "make cuda-wheel   fetch a CUDA build of torch (5.5 GB), build the wheel with CUDA kernels, check it without a GPU"
	@echo "make clean        remove everything that was built"

test: build
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

gates: deps
	$(BIN)/python scripts/gates.py $(GATES_ARGS)
	$(BIN)/python scripts/cuda_gates.py $(CUDA_GATES_ARGS)

bench: build
	$(BIN)/python -m bench $(BENCH_ARGS)

bench-quick: build
	$(BIN)/python -m bench --quick $(BENCH_ARGS)

demo: build
	$(BIN)/python examples/digits.py
	$(BIN)/python examples/collapse.py
	$(BIN)/python examples/code_search.py

build: $(VENV)/stamp-build
deps: $(VENV)/stamp-deps
dev: $(VENV)/stamp-dev

$(VENV)/stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "fused_rank needs Python 3.10 or newer, and $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	@touch $@

# The package itself goes in without the extension, which the next rule compiles in place, object by object.
$(VENV)/stamp-deps: $(VENV)/stamp-venv pyproject.toml
	$(PIP) "setuptools>=77" ninja $(TRITON)
	FUSED_RANK_NO_EXTENSION=1 $(PIP) --no-build-isolation --editable '.[test,bench]'
	@touch $@

$(VENV)/stamp-dev: $(VENV)/stamp-deps
	FUSED_RANK_NO_EXTENSION=1 $(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

$(VENV)/stamp-build: $(VENV)/stamp-deps $(SOURCES)
	@mkdir -p build
	@echo "compiling the extension (log: build/compile.log)"
	@$(IN_VENV) $(BIN)/python setup.py --quiet build_ext --inplace > build/compile.log 2>&1 || { \
	  cat build/compile.log; exit 1; }
	@grep -E '^warning: fused_rank' build/compile.log || true
	@touch $@

lint: dev
	$(IN_VENV) SKIP=mypy pre-commit run --all-files --show-diff-on-failure

types: dev
	$(IN_VENV) pre-commit run mypy --all-files

docs: dev build
	$(BIN)/python scripts/check_docs.py

wheel: dev
	rm -rf build/lib* build/bdist* build/wheel dist
	@$(IN_VENV) python -m build --wheel --no-isolation --outdir build/wheel > build/wheel.log 2>&1 || { \
	  cat build/wheel.log; exit 1; }
	@mkdir -p dist
	@if [ "$$(uname)" = Linux ] && ls build/wheel/*-abi3-*.whl > /dev/null 2>&1; then \
	  $(IN_VENV) auditwheel repair --exclude 'libtorch*.so' --exclude libc10.so -w dist build/wheel/*.whl \
	    >> build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }; \
	else cp build/wheel/*.whl dist/; fi
	@ls -l dist/*.whl

audit: wheel
	$(IN_VENV) python scripts/audit_wheel.py dist/*.whl

smoke: wheel
	$(BIN)/python scripts/matrix.py dist/*.whl --torch "$(TORCH)"

cuda-wheel: dev
	@[ -d $(CUDA_VENV) ] || $(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$(CUDA_TORCH)" "setuptools>=77" ninja numpy
	$(IN_VENV) python scripts/check_cuda_wheel.py $(CUDA_VENV)/bin/python $(CUDA_WHEEL_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info fused_rank/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
