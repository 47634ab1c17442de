# The short names. Every target sets up .venv first when a lock or a pyproject.toml is newer than it.

BIN := .venv/bin
READY := .venv/.ready
MEMBERS := . $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/*/pyproject.toml)))
ARGS ?=
COVERAGE ?=
# Measuring makes cases slower, so a hang is judged later than without it.
COVER := -p tools.coverage_plugin --timeout=600
PYTEST = $(if $(MEMORY),TMPDIR=$(MEMORY)) $(BIN)/python -m pytest -n 2 --dist worksteal

# Journals wait for the disk at each decision; those of tests lie in memory where a gigabyte is free there.
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 1000000 { print "/dev/shm" }')

# Tests and their children start several times faster where what is compiled once is kept.
unexport PYTHONDONTWRITEBYTECODE

# A plugin's folder that came or went makes the environment stale as well.
ifneq ($(strip $(shell cat $(READY) 2>/dev/null)),$(strip $(MEMBERS)))
STALE := stale
endif

.PHONY: setup demo test cover check full lint size lock bench figures simulate simulate-full seeds golden clean stale

setup: $(READY)

$(READY): requirements.lock requirements-dev.lock tools/setup.sh $(MEMBERS:%=%/pyproject.toml) $(STALE)
	@sh tools/setup.sh $(MEMBERS)
	@echo "$(MEMBERS)" > $@

demo: $(READY)
	$(BIN)/tbot run --demo

test: $(READY)
	@echo "The first tests run after 10 to 30 seconds of collecting."
	$(PYTEST) --tier=test $(if $(COVERAGE),$(COVER)) $(ARGS)

# The coverage of all cases of `make test COVERAGE=1` and of the remaining ones.
cover: .coverage
	$(PYTEST) --tier=check $(COVER) --hypothesis-seed=1 $(ARGS)
	$(BIN)/python tools/coverage_floors.py
	rm -r .coverage

.coverage:
	$(MAKE) test COVERAGE=1

check: cover
	$(MAKE) lint
	$(MAKE) demo
	$(MAKE) seeds MINUTES=3

full: $(READY)
	$(PYTEST) --tier=full $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tbot_core.testing.purity_check tbot_core plugins
	$(BIN)/python tools/licences.py
	$(BIN)/python tools/word_lint.py
	$(BIN)/python tools/judge_lint.py
	$(BIN)/codespell

size: $(READY)
	@$(BIN)/python tools/size.py

lock: $(READY)
	$(BIN)/uv lock --upgrade
	$(BIN)/python tools/lock.py

bench: $(READY)
	$(BIN)/python benchmarks/engines/compare.py $(ARGS)

figures: $(READY)
	@for file in benchmarks/*.py; do $(BIN)/python "$$file" || exit 1; done

# The bot as it is at the seeds of the corpus, the mutants at theirs, then so many seeds, or as many as the minutes allow.
SEEDS ?= 10000
MINUTES ?= 10

simulate: $(READY)
	$(PYTEST) -q tests/rehearsal/test_rehearsal_mutants.py -k bot_as_it_is
	$(PYTEST) -q tests/rehearsal/test_rehearsal_mutants.py -k "not bot_as_it_is"
	$(MAKE) seeds

seeds: $(READY)
	$(BIN)/tbot rehearse --workers 2 --seeds $(SEEDS) $(if $(MINUTES),--minutes $(MINUTES))

# Whether the bot does what it did at the commits of tools/golden.tsv: equal, or the first event that differs.
FAST ?=

golden: $(READY)
	$(if $(MEMORY),TMPDIR=$(MEMORY)) $(BIN)/python tools/golden.py compare $(if $(FAST),--fast)

simulate-full:
	$(MAKE) simulate MINUTES=

clean:
	rm -rf .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist tbot-demo
	find tbot_core plugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
