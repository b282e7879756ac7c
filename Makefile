# make demo   installs into .venv, prepares a data set, trains on it, evaluates, exports
# make test   installs into .venv, lints, runs the tests
# make help   the rest

VENV = .venv
# The extra that brings MXNet: cpu, or cu112 on a machine with NVIDIA GPUs. What is installed
# stays unless another is asked for.
EXTRA = $(or $(patsubst $(VENV)/installed-%,%,$(firstword $(wildcard $(VENV)/installed-c*))),cpu)
# The interpreter to make .venv with; found by tools/find-python if not named.
PYTHON =
RUN = $(VENV)/bin/python
# Two tests at a time, each on one thread: threads of two that share cores wait for each other.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile
STAMP = $(VENV)/installed-$(EXTRA)
PIP = $(RUN) -m pip install --disable-pip-version-check
QUIETLY = sh tools/install-quietly $(VENV)/install.log
# For the tests. Without what it asks for: that would put another OpenCV's files over ours.
GLUONCV = $(shell sed -n "s/.*\"\(gluoncv==[^\"]*\)\".*/\1/p" setup.py)

# For the comparison with PyTorch, whose NumPy is too new for MXNet.
BENCH_VENV = .venv-bench
# Options of pip, such as an index that has builds for CPUs only: PyPI's bring CUDA.
BENCH_PIP =
# Of benchmarks/compare.py, such as BENCH="--networks cifar_dmrnet14 --rounds 3".
BENCH =
# Of tools/mutants.py, such as MUTANTS="models/blocks --sample 100".
MUTANTS =

.PHONY: help install demo test test-all test-pythons lint format figures results docs build \
    coverage mutants bench clean

help:
	@echo "make install        install into $(VENV) (EXTRA=cu112 for GPUs, PYTHON=... to choose)"
	@echo "make demo           install, prepare the digits, train a DMRNet on them, evaluate, export"
	@echo "make test           install, lint, run the fast tests"
	@echo "make test-all       the slow tests too"
	@echo "make test-pythons   the fast tests under every Python from 3.8 to 3.12 that is found"
	@echo "make figures        draw the pictures and write the tables of README and docs again"
	@echo "make results        write docs/results.md from the logs in results/ again"
	@echo "make docs           make pages of docs/ and the docstrings, in docs/_build"
	@echo "make build          make a wheel and a source distribution, in dist"
	@echo "make coverage       the fast tests, with the lines that none of them runs"
	@echo "make mutants        break lines on purpose: which tests notice? Hours (MUTANTS=...)"
	@echo "make format         let ruff format the code"
	@echo "make bench          this project beside PyTorch and others, an hour or two (BENCH=...)"
	@echo "make clean          remove $(VENV), .venvs, $(BENCH_VENV), demo and what was built"

install: $(STAMP)

# .venv is made anew where an installation was not finished, or was for another EXTRA: the
# wheels for CPUs and GPUs overwrite each other's files.
$(STAMP): setup.py pyproject.toml
	@set -e; \
	if [ ! -e "$(STAMP)" ]; then \
	    python=$$(sh tools/find-python "$(PYTHON)"); \
	    echo "making $(VENV) with $$python; downloading about 200 MB"; \
	    rm -rf "$(VENV)"; \
	    "$$python" -m venv "$(VENV)"; \
	else \
	    echo "updating $(VENV)"; \
	fi; \
	$(QUIETLY) $(PIP) -e '.[$(EXTRA),digits,test]'; \
	$(QUIETLY) $(PIP) --no-deps $(GLUONCV); \
	$(RUN) -c 'import dmr_gluon.cli.program as p; p.run(lambda: __import__("dmr_gluon.runtime"))' \
	    || [ "$(EXTRA)" = cu112 ]; \
	touch "$(STAMP)"; \
	echo "installed; pip's output is in $(VENV)/install.log"

demo: install
	@echo "== prepare: 1,797 handwritten digits as RecordIO"
	$(VENV)/bin/dmr prepare digits --out demo/digits
	@echo "== train: a merge-and-run network of depth 14, about a minute on two cores"
	@rm -rf demo/run demo/export
	$(RUN) train_cifar.py --data-dir demo/digits --run-dir demo/run
	@echo "== evaluate"
	$(VENV)/bin/dmr eval demo/run
	@echo "== export, and evaluate what was exported with nothing but MXNet"
	$(VENV)/bin/dmr export demo/run --out demo/export
	$(RUN) examples/plain_mxnet.py demo/export demo/digits --log demo/run/log.jsonl --at-most 3
	@echo "== done: see demo/run/curve.png and demo/run/log.jsonl"

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint
	$(PYTEST) -m "not slow"

test-all: lint $(VENV)/installed-docs
	$(PYTEST)

test-pythons:
	@set -e; sh tools/find-python --all >/dev/null; \
	sh tools/find-python --all | while read -r version python; do \
	    echo "== Python $$version ($$python)"; \
	    rm -rf .venvs/$$version; \
	    $(MAKE) --no-print-directory install VENV=.venvs/$$version PYTHON="$$python" </dev/null; \
	    .venvs/$$version/bin/python -m pytest -m "not slow" </dev/null; \
	done

format: install
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

figures: install
	$(RUN) docs/draw_blocks.py docs/figures/blocks.png
	$(VENV)/bin/dmr paths --plot docs/figures/paths.png
	$(RUN) docs/write_tables.py

results: install
	$(VENV)/bin/dmr compare results --against results results/authors/cross_d26w1_exp3.txt \
	    --markdown docs/results.md --pictures docs/figures/results

# Warnings are errors: a link that leads nowhere, a docstring that is no reStructuredText.
docs: $(VENV)/installed-docs
	$(RUN) -m sphinx -W --keep-going -q -b html docs docs/_build

$(VENV)/installed-docs: $(STAMP)
	@$(QUIETLY) $(PIP) -e '.[$(EXTRA),docs]'
	touch $@

build: install
	$(RUN) -m build --no-isolation

coverage: install
	$(PYTEST) -m "not slow" --cov=dmr_gluon --cov-report=term-missing:skip-covered

mutants: install
	$(RUN) -m pip install --disable-pip-version-check -q -e '.[$(EXTRA),mutants]'
	$(RUN) tools/mutants.py $(MUTANTS)

bench: install $(BENCH_VENV)/installed
	$(RUN) benchmarks/compare.py --peer-python $(BENCH_VENV)/bin/python --out-dir bench $(BENCH)

$(BENCH_VENV)/installed: benchmarks/requirements.txt
	@set -e; \
	python=$$(sh tools/find-python "$(PYTHON)"); \
	echo "making $(BENCH_VENV) with $$python (a download of up to 3 GB; see BENCH_PIP)"; \
	rm -rf $(BENCH_VENV); \
	"$$python" -m venv $(BENCH_VENV); \
	$(BENCH_VENV)/bin/python -m pip install --disable-pip-version-check $(BENCH_PIP) \
	    -r benchmarks/requirements.txt; \
	touch $@

clean:
	rm -rf $(VENV) .venvs $(BENCH_VENV) demo docs/_build build dist
