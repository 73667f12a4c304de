# Two commands do everything on a fresh machine with Python 3.11 and pip: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COUNT ?= 100000
SEED ?= 0

.PHONY: setup demo docs test install slow lint help bench fuzz reliability clean

help:
	@echo "make demo   set up, then the whole job on drawn faces, to demo/report.html (5 minutes on two idle cores)"
	@echo "make docs   the documentation as a site, build/site/index.html"
	@echo "make test   set up, then lint, types and tests"
	@echo "make slow   the long and real-data tests (STYLEALIGN_DATA names the folder of real faces)"
	@echo "make install   build the wheel and the sdist, and install them and every extra in clean environments"
	@echo "make bench  speed and memory tables"
	@echo "make fuzz   100,000 damaged inputs to every reader (COUNT, SEED); goes on where it was stopped"
	@echo "make reliability   20 kills, 10 pairs of commands, a full disk at 20 points of each job (15 minutes)"

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

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m mkdocs build
	@echo "open build/site/index.html; to search in it: $(BIN)/python -m http.server -d build/site"

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

install: $(READY)
	$(BIN)/python -m pytest -m slow tests/test_install.py

slow: $(READY)
	$(BIN)/python -m pytest -m slow

bench: $(READY)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/detectors.py
	$(BIN)/python benchmarks/translators.py

fuzz: $(READY)
	PYTHONPATH=tests $(BIN)/python -m fuzz --count $(COUNT) --seed $(SEED)

reliability: $(READY)
	$(BIN)/python benchmarks/reliability.py

clean:
	rm -rf demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
