# Two commands do everything on a fresh machine with Python 3.11 and pip: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test slow lint help bench clean

help:
	@echo "make demo   set up, then the whole job on drawn faces, to demo/report.html (5 minutes on two cores)"
	@echo "make test   set up, then lint, types and tests"
	@echo "make slow   the long and real-data tests (STYLEALIGN_DATA names the folder of real faces)"
	@echo "make bench  speed and memory tables"

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/stylealign pipeline tiny --out demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile

slow: $(READY)
	$(BIN)/python -m pytest -m slow

bench: $(READY)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/detectors.py
	$(BIN)/python benchmarks/translators.py

clean:
	rm -rf demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
