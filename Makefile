# `make demo` and `make test` do all the set-up themselves, in a virtual environment of the checkout. With PYTHON=... they
# use an environment that has torch, setuptools, cmake and ninja already, and no network.
VENV ?= .venv

ifeq ($(origin PYTHON), undefined)
PYTHON := $(VENV)/bin/python
ENVIRONMENT := $(VENV)/.ready
EXTRAS := [train,data,export,test,dev]
export PATH := $(abspath $(VENV))/bin:$(PATH)
else
NO_NETWORK := --no-deps --no-index
endif
INSTALLED := build/installed-$(subst /,_,$(PYTHON))
CPP := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')

.PHONY: demo test lint bench gpu lib clean

demo: $(INSTALLED)
	$(PYTHON) -m asma demo

test: $(INSTALLED)
	$(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadfile --durations=15

lint: $(INSTALLED)
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	@$(PYTHON) -c "from clang_format import clang_format; clang_format()" --dry-run -Werror $(CPP)

bench: $(INSTALLED)
	$(PYTHON) -m bench.run

# Everything that only a machine with a GPU can show.
gpu: $(INSTALLED)
	$(PYTHON) -m bench.gpu

$(VENV)/.ready: pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install torch==2.13.0 "numpy<2.4" "setuptools>=77" cmake ninja
	touch $@

$(INSTALLED): $(ENVIRONMENT) pyproject.toml setup.py CMakeLists.txt $(wildcard build_backend/*.py) $(filter csrc/%,$(CPP))
	$(PYTHON) -m pip install --no-build-isolation $(NO_NETWORK) -e '.$(EXTRAS)'
	$(PYTHON) -m asma_kernels.env
	@mkdir -p build
	touch $@

# The compiled library alone, into the checkout; what a developer of kernels runs. Without CUDA unless ASMA_CUDA says so.
lib:
	ASMA_CUDA=$${ASMA_CUDA:-off} $(PYTHON) setup.py -q build_ext --inplace

clean:
	rm -rf build dist *.egg-info asma_kernels/*.so asma_kernels/_build.json
