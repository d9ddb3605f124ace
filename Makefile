# make setup | run | plan | test | test-machines | lint | lock | docs | benchmarks | clean
# Everything is installed below .venv and .bench; outside this folder only caches are written.
PYTHON ?= python3
BIN := .venv/bin
PROFILES := default local slurm ec2 codespace
FIND_LINKS := $(foreach folder,$(PIP_FIND_LINKS),--find-links $(folder))
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run plan test test-machines setup lint lock docs benchmarks clean

run: setup
	@$(BIN)/snakemake --profile profiles/local $$($(BIN)/trainyard recommend --flags) $(ARGS)

plan: setup
	@$(BIN)/python workflow/scripts/plan_machines.py $(ARGS)

test: setup
	@$(BIN)/pytest -n 2 $(ARGS)

# Real Slurm, sshd and an object store on this machine; root on Debian or Ubuntu, skipped with the reason elsewhere. Two at once, for
# they mostly wait. Links that are cut for a whole minute: make test-machines ARGS="-m slow"
test-machines: setup
	@$(BIN)/pytest tests/machines -n 2 --dist loadfile -m "not slow" -rs $(ARGS)

setup: .setup/done

.setup/done: requirements.lock pyproject.toml workflow/scripts/setup_environment.py
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "installing the pinned packages into .venv"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(FIND_LINKS) -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python $(FIND_LINKS) --no-deps -e .
	@for profile in $(filter-out default,$(PROFILES)); do ln -sfn profiles/$$profile $$profile; done
	@if [ "$$CODESPACES" = true ]; then ln -sfn profiles/codespace/inside codespace; fi
	@$(BIN)/python workflow/scripts/setup_environment.py
	@mkdir -p .setup && touch .setup/done

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile rules && $(BIN)/mypy

# The lock is made from pyproject.toml, the conda environments from the lock. It holds no CUDA packages: torch's own wheel pins
# those, where it needs any.
lock: setup
	@env -u PIP_FIND_LINKS $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group dev --no-annotate \
	  --custom-compile-command "make lock" -o .setup/lock pyproject.toml
	@grep -vE '^(nvidia-|cuda-|triton)' .setup/lock | sed -E 's/^(torch==[0-9.]+).*/\1/' | uniq > requirements.lock
	@$(BIN)/python workflow/scripts/write_docs.py

docs: setup
	@$(BIN)/python workflow/scripts/write_docs.py

# The pinned packages and the peers that benchmarks/ compares with, in an environment of their own.
benchmarks: setup
	@test -x .bench/bin/python || $(PYTHON) -m venv .bench
	@$(BIN)/uv pip install --quiet --python .bench/bin/python $(FIND_LINKS) -r requirements.lock -r benchmarks/requirements.txt
	@$(BIN)/uv pip install --quiet --python .bench/bin/python $(FIND_LINKS) --no-deps -e .

clean:
	rm -rf results checkpoints logs data/demo .snakemake
