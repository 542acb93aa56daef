# Each target does its whole set-up: a fresh clone needs `make demo` or `make test` and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SIMULATION := $(VENV)/.simulation
INSTALLED := $(VENV)/.installed
BENCH := $(VENV)/.bench
# What the demonstration needs: whoever has installed all has it.
DEMO := $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(SIMULATION))

.PHONY: install demo test test-all lint docs bench bench-quick conformance clean

# $(call install,EXTRA,SIZE): says beforehand what comes, and lets pip say how far it is.
define install
@echo "Installing into $(VENV), once: this package with its extra '$(1)', $(2) on the disk, mostly"
@echo "PyTorch (0.8 GB; some GB more where pip takes the build with CUDA) and Ray; it takes minutes."
@echo "The plugin alone needs none of this: pip install . takes 0.3 GB."
$(PYTHON) -m venv $(VENV)
$(BIN)/pip install -c constraints.txt -e ".[$(1)]"
@touch $@
endef

$(SIMULATION): pyproject.toml constraints.txt
	$(call install,simulation,1.8 GB)

$(INSTALLED): pyproject.toml constraints.txt
	$(call install,dev,2.2 GB)

install: $(INSTALLED)

demo: $(DEMO)
	$(BIN)/python -m simulations demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "timed and not slow" tests
	$(BIN)/python -m pytest -m "not timed and not slow" -n auto --maxprocesses 4 --dist loadfile

test-all: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -q -c docs/site docs build/site
	@echo "build/site/index.html"

# krum asks for Python 3.12 and byzpy for older versions of torch and numpy; what is measured of them
# runs here all the same, and geom-median is only compared. Without them the benchmarks run and say so.
$(BENCH): $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[bench,dev]"
	-$(BIN)/pip install --quiet --no-deps --no-compile --ignore-requires-python krum==0.9.1 byzpy==0.1.4 \
		geom-median==0.1.0
	touch $@

bench: $(BENCH)
	$(BIN)/python -m benchmarks full

bench-quick: $(BENCH)
	$(BIN)/python -m benchmarks quick

conformance: $(BENCH)
	$(BIN)/python -m benchmarks conformance

clean:
	rm -rf $(VENV) build dist
