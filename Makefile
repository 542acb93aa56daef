# Each target does its whole set-up: a fresh clone needs `make demo` or `make test` and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH := $(VENV)/.bench

.PHONY: install demo test test-all lint docs bench bench-quick conformance clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
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
