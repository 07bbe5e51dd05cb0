# `make demo` and `make test` do all the set-up themselves.
VENV ?= .venv
PYTHON ?= $(VENV)/bin/python
BUILD ?= build/dev
TORCH_DIR = $(shell $(PYTHON) -c "import importlib.util as u, pathlib as p; print(p.Path(u.find_spec('torch').origin).parent)")

# The compiled library alone, into the checkout; what a developer of kernels runs. Replaced by rename: a process that
# has the old one mapped keeps it.
.PHONY: lib
lib:
	@mkdir -p $(BUILD)
	cmake -G Ninja -S . -B $(BUILD) -DASMA_TORCH_DIR=$(TORCH_DIR) >/dev/null
	flock $(BUILD)/lock cmake --build $(BUILD)
	cp $(BUILD)/libasma_ops.so asma_kernels/libasma_ops.so.new
	mv asma_kernels/libasma_ops.so.new asma_kernels/libasma_ops.so
