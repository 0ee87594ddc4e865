# Two commands do everything on a fresh machine with Python >= 3.11, pip, venv and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export JAX_PLATFORMS ?= cpu

.PHONY: demo test test-quick test-all test-lowest test-newest lint bench bench-quick docs-results clean .venv-bench .venv-bench-pinned

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[rna,games]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[excel,rna,cluster,games,tuning,dev]'
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## the main job end to end: measurements, check, fit, run, shortlist, verify, report
	$(BIN)/python examples/rna_binder/demo.py

PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(VENV)/.dev lint  ## what every change must pass, within ten minutes
	$(PYTEST) --durations 25

# A file or a folder of most rooms: two minutes on two processors. Others with TESTS="tests/vi tests/test_runs.py".
TESTS ?= $(addprefix tests/,test_architecture.py test_operators.py test_edit_distance.py data config envs/test_games.py \
	envs/test_sequence.py envs/test_subsets.py envs/test_hypergrid.py exact/test_solution.py exact/test_enumeration.py \
	metrics noise/test_table.py objectives/test_bellman.py commands/test_printing.py)

test-quick: $(VENV)/.dev  ## while working
	$(BIN)/ruff check .
	$(PYTEST) $(TESTS)

test-all: $(VENV)/.dev lint  ## every test, compiled as for users: before a release
	$(BIN)/pip install --quiet --constraint constraints.txt build twine
	XLA_FLAGS= $(PYTEST) -m '' --durations 50

# What pyproject.toml says is true at both ends. PyTorch is left out: an older or newer one pulls gigabytes.
SUPPORTED := [excel,rna,cluster,games,test]
NEWEST ?= $(firstword $(foreach minor,14 13 12 11,$(shell python3.$(minor) -c '' 2>/dev/null && echo python3.$(minor))))

.venv-lowest/.installed: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet uv
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --resolution lowest-direct --editable '.$(SUPPORTED)'
	touch $@

.venv-newest/.installed: pyproject.toml
	test -x $(@D)/bin/python || $(NEWEST) -m venv $(@D)
	$(@D)/bin/pip install --quiet --upgrade --upgrade-strategy eager --editable '.$(SUPPORTED)'
	touch $@

# Old libraries warn of each other, which is no matter of ours.
test-lowest: .venv-lowest/.installed  ## the quick part with the oldest libraries that pyproject.toml allows
	.venv-lowest/bin/python -m pytest -n 2 --dist worksteal -W ignore::DeprecationWarning $(TESTS)

test-newest: .venv-newest/.installed  ## the quick part with the newest Python here and the newest libraries; NEWEST=python3.13 for another
	.venv-newest/bin/python -m pytest -n 2 --dist worksteal $(TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

# What is measured beside ours lives apart: its pins are not ours, and its own contradict each other, hence no resolver.
.venv-bench/.installed: benchmarks/peers.txt
.venv-bench-pinned/.installed: benchmarks/peers-pinned.txt
.venv-bench/.installed .venv-bench-pinned/.installed:
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --no-deps --requirement $<
	touch $@

.venv-bench: .venv-bench/.installed
.venv-bench-pinned: .venv-bench-pinned/.installed

bench: $(VENV)/.demo .venv-bench/.installed .venv-bench-pinned/.installed  ## speed beside the peers, every case: about half an hour on a quiet machine
	$(BIN)/python -m benchmarks speed --out benchmarks/results/speed.jsonl

bench-quick: $(VENV)/.demo  ## our speed beside the stored baselines, within three minutes: run it after a change of the core
	$(BIN)/python -m benchmarks guard

docs-results: $(VENV)/.demo  ## the pages under docs/ that show committed results, and the one that explains a job
	$(BIN)/python -m benchmarks docs

clean:
	rm -rf $(VENV) .venv-bench .venv-bench-pinned .venv-lowest .venv-newest runs
