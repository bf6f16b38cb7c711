# Two commands for a newcomer: `make demo` and `make test`. Both stand on `make setup`.
PYTHON ?= $(shell for p in python3.11 python3.12; do $$p -c '' 2>&- && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# The CPU build where there is no CUDA machine; a torch in the allowed range that is already in
# the environment is kept. GPU users elsewhere: make setup TORCH="torch>=2.10,<2.14"
ANY_TORCH := torch>=2.10,<2.14
TORCH ?= $(shell grep '^torch==' requirements/lock.txt)
export OMP_NUM_THREADS ?= 1
# uv leaves compiling to the first import; without its files every process compiles again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test quick check slow sample setup lock latest bench environments clean

demo: setup
	$(BIN)/pcan data demo data/demo
	$(BIN)/pcan sweep launch demo
	$(BIN)/pcan sweep status demo
	$(BIN)/pcan sweep compare demo
	$(BIN)/pcan sweep best demo

# Three files at a time for two cores, which tests that wait for a job leave idle; in the order of
# tests/conftest.py: those that take minutes first, so that no worker is left with one at the end.
FILES := -n 3 --dist loadfile --no-loadscope-reorder

test: setup
	$(BIN)/python -m pytest -m "not slow" $(FILES)

# A few files of each room, chosen by their time: under a minute.
quick: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile @tests/quick.txt

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

slow: setup
	$(BIN)/python -m pytest -m slow --timeout 7200
	PCAN_FUZZ=2000 $(BIN)/python -m pytest -m fuzz -n 2 --timeout 7200

# The part of `slow` that continuous integration runs.
sample: setup
	$(BIN)/python -m pytest -m "slow and sample" --timeout 3600 $(FILES)

# Other environments for the slow proofs: about 8 GB with older torch, from a Python 3.8, and 3 GB
# with the newest Python that is allowed, by the same pins as .venv.
OLD_PYTHON ?= python3.8
OLD_TORCH := 1.13.1 2.0.1 2.4.1
NEW_PYTHON ?= python3.12
environments: $(OLD_TORCH:%=.environments/torch-%/.ready) .environments/python-3.12/.ready

.environments/python-3.12/.ready: pyproject.toml requirements/lock.txt
	$(NEW_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet "$(TORCH)"
	sh requirements/install.sh $(@D)/bin/python
	touch $@

.environments/torch-%/.ready:
	$(OLD_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet "torch==$*" mmengine==0.10.7 mmcv-lite==2.0.1 \
		mmaction2==1.2.0 importlib_metadata "numpy<2" "opencv-python<5" "setuptools<70" wheel
	touch $@

bench: setup
	$(BIN)/python benchmarks/control.py
	$(BIN)/python benchmarks/report.py

setup: $(VENV)/.ready

# Redone only when what is to be installed changes.
$(VENV)/.ready: pyproject.toml requirements/lock.txt
	@test -n "$(PYTHON)" || { echo "There is no Python 3.11 or 3.12 here; where one is:" \
		"make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) makes no" \
		"environment; Debian and Ubuntu have that in a package: apt install $(notdir $(PYTHON))-venv" \
		>&2; exit 1; }
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	sh requirements/install.sh $(BIN)/python
	touch $@

# An environment of the newest versions that pyproject.toml allows.
NEWEST := .environments/newest
$(NEWEST)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet uv "$(ANY_TORCH)"
	$(NEWEST)/bin/python -m uv pip install --quiet --python $(NEWEST)/bin/python \
		--editable '.[test]'
	touch $@

# Pins those versions for `make setup`.
lock:
	rm -f $(NEWEST)/.ready
	$(MAKE) $(NEWEST)/.ready
	sh requirements/lock.sh $(NEWEST)/bin/python

# Does a release of a dependency break something? Run it weekly; then `make lock`.
latest:
	rm -f $(NEWEST)/.ready
	$(MAKE) $(NEWEST)/.ready
	$(NEWEST)/bin/python -m pytest -m "not slow" $(FILES)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
