# Two commands do everything on a fresh machine with Python >= 3.11, pip, venv and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export JAX_PLATFORMS ?= cpu

.PHONY: demo test lint docs-results clean

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[rna]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[rna,dev]'
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## the main job end to end: measurements, check, fit, run, shortlist, verify, report
	$(BIN)/python examples/rna_binder/demo.py

test: $(VENV)/.dev lint  ## every test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

docs-results: $(VENV)/.demo  ## the pages under docs/ that show committed results
	$(BIN)/python -m benchmarks docs

clean:
	rm -rf $(VENV) runs
