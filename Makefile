# The short names. Every target sets up .venv first when requirements.lock or a pyproject.toml is newer than it.

BIN := .venv/bin
READY := .venv/.ready
MEMBERS := . $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/*/pyproject.toml)))
ARGS ?=
COVERAGE ?=

# A plugin's folder that came or went makes the environment stale as well.
ifneq ($(strip $(shell cat $(READY) 2>/dev/null)),$(strip $(MEMBERS)))
STALE := stale
endif

.PHONY: setup demo test full cover lint lock bench simulate simulate-full seeds clean stale

setup: $(READY)

$(READY): requirements.lock tools/setup.sh $(MEMBERS:%=%/pyproject.toml) $(STALE)
	@sh tools/setup.sh $(MEMBERS)
	@echo "$(MEMBERS)" > $@

demo: $(READY)
	$(BIN)/tbot run --demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not full" $(if $(COVERAGE),--cov --cov-report=) $(ARGS)
	$(if $(COVERAGE),$(BIN)/python tools/coverage_floors.py)

full: $(READY)
	HYPOTHESIS_PROFILE=wide $(BIN)/python -m pytest -n 2 $(ARGS)

cover:
	$(MAKE) test COVERAGE=1

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tbot_core.testing.purity_check tbot_core plugins
	$(BIN)/python tools/licences.py
	$(BIN)/codespell

lock: $(READY)
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --locked --all-packages --all-extras --all-groups --no-emit-workspace --no-annotate --no-header \
		--format requirements-txt --output-file requirements.lock > /dev/null

bench: $(READY)
	@for file in benchmarks/*.py; do $(BIN)/python "$$file" || exit 1; done

# The bot as it is at the seeds of the corpus, the mutants at theirs, then so many seeds, or as many as the minutes allow.
SEEDS ?= 10000
MINUTES ?= 10

simulate: $(READY)
	$(BIN)/python -m pytest -q -n 2 tests/rehearsal/test_rehearsal_mutants.py -k bot_as_it_is
	$(BIN)/python -m pytest -q -n 2 tests/rehearsal/test_rehearsal_mutants.py -k "not bot_as_it_is"
	$(MAKE) seeds

seeds: $(READY)
	$(BIN)/tbot rehearse --workers 2 --seeds $(SEEDS) $(if $(MINUTES),--minutes $(MINUTES))

simulate-full:
	$(MAKE) simulate MINUTES=

clean:
	rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist tbot-demo
	find tbot_core plugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
