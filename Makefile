# One command each, with its own set-up: a virtual environment in .venv, pinned by constraints.txt.
#   make demo    see it work              make test    every test
#   make bench   microbenchmarks          make lint    what CI checks before the tests
#   make format  fix what can be fixed    make sanitize  the C++ tests under ASan, UBSan and TSan
#   make dlrm    serve a DLRM end to end (after make policies, whose trained policies it takes)
#   make policies  train the learned policies and compare them with others on recorded traces
#   make paper     the paper's claims about prefetching beside ours: docs/results.md
#   make torture   campaigns of kills, power cuts, I/O errors, fuzzed files: MINUTES=60 SEED=1
#   make docs      the documentation, as HTML: build/docs/index.html
#   make wheel     a manylinux wheel and a source distribution in dist/, both tested

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt --progress-bar off
PACKAGE := $(PIP) --no-build-isolation --editable

CORE := $(shell find tieralloc/_core policies/baselines/_core -name '*.cpp' -o -name '*.hpp' -o -name '*.inc')
BUILD_FROM := setup.py $(CORE) \
              $(wildcard tieralloc/_bindings/*.p?? tieralloc/_bindings/core/*.pxd policies/baselines/*.pyx)
CPP := $(CORE) $(shell find tests/core tieralloc/nn/native examples -name '*.cpp' -o -name '*.hpp' 2>/dev/null)

# The package as it is installed, for tools that read it from one folder.
TREE := build/tree

.PHONY: demo test test-python test-core sanitize torture bench bench-peers dlrm policies paper lint format docs wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo $(VENV)/built
	$(BIN)/tieralloc demo

test: test-core test-python

test-python: $(VENV)/dlrm $(VENV)/built
	$(BIN)/python -m pytest

test-core:
	$(MAKE) --no-print-directory -C tests/core asan

sanitize:
	$(MAKE) --no-print-directory -C tests/core asan tsan

MINUTES ?= 10
torture: $(VENV)/all $(VENV)/built
	$(BIN)/python -m tests.torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/all $(VENV)/built
	$(BIN)/python -m pytest bench/micro --benchmark-autosave \
	    --benchmark-columns=min,median,iqr,ops,rounds --benchmark-group-by=group

bench-peers: $(VENV)/all $(VENV)/built
	$(BIN)/python -m bench.peers

dlrm: $(VENV)/dlrm $(VENV)/built
	$(BIN)/python -m bench.dlrm

policies: $(VENV)/all $(VENV)/built
	$(BIN)/python -m bench.policies

paper: $(VENV)/all $(VENV)/built
	$(BIN)/python -m bench.paper

lint: $(VENV)/all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(TREE)
	mkdir -p $(TREE)/tieralloc
	ln -sfn $(CURDIR)/tieralloc/* $(CURDIR)/policies $(TREE)/tieralloc
	cd $(TREE) && MYPYPATH=. $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p tieralloc
	cd $(TREE) && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports --no-logo $(CURDIR)/pyproject.toml
	@$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(CPP)

docs: $(VENV)/all $(VENV)/built
	$(BIN)/python docs/rooms.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "[make] build/docs/index.html"

wheel: $(VENV)/python
	.ci/wheel $(BIN)/python

clean:
	rm -rf build dist $(VENV) *.egg-info tieralloc/_bindings/*.so policies/baselines/*.so

# The virtual environment, with what compiles the package.
$(VENV)/python: constraints.txt
	@echo "[make] $(VENV): a virtual environment"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --quiet setuptools Cython
	touch $@

# The only compilation. pip finds its products, whatever extras it installs.
$(VENV)/built: $(VENV)/python $(BUILD_FROM)
	@echo "[make] compile the package, what changed of it: at most 100 s of CPU"
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@

# The package as it stands in this folder, with what a demo needs, and with what development needs.
$(VENV)/demo: pyproject.toml | $(VENV)/built
	@echo "[make] install the package with torch and matplotlib"
	$(PACKAGE) '.[torch,plot]'
	touch $@

$(VENV)/all: pyproject.toml | $(VENV)/built
	@echo "[make] install the package with all that development needs"
	$(PACKAGE) '.[torch,plot,arrange,metrics,test,bench,docs,dev]'
	touch $@ $(VENV)/demo

# torchrec names FBGEMM's CUDA build, which would bring another torch: both come without what they name.
$(VENV)/dlrm: $(VENV)/all
	@echo "[make] install torchrec and FBGEMM"
	$(PIP) 'tieralloc[dlrm]'
	$(PIP) --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0 || \
	    echo "[make] torchrec and FBGEMM cannot be installed here: THEIR TESTS WILL BE SKIPPED"
	touch $@
