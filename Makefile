# `make train` and `make test` set up .venv by themselves, with uv if it is installed.
PYTHON ?= python3
TORCH ?= auto
BIN := .venv/bin
TRAIN_ARGS ?= --recipe fast

.PHONY: help setup train test test-quick lint demo docs docs-serve dist clean

help:
	@echo 'make train   train on the sample photos           make demo   open the demo'
	@echo 'make test    run all tests                        make lint   check the style'
	@echo 'make test-quick   only the unit tests'
	@echo 'make docs    build the documentation (build/docs)  make docs-serve   and serve it'
	@echo 'make dist    build a release and try it           make clean  remove what was built'

setup: .venv/.done-$(TORCH)

.venv/.done-$(TORCH): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'hffruits needs Python 3.11 or later; name one: make PYTHON=python3.12'; exit 2; }
	@TORCH="$(TORCH)" scripts/make_venv.sh "$(PYTHON)"
	@touch "$@"

train: setup
	$(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no \
		--dynamo_backend no scripts/train.py $(TRAIN_ARGS)
	@[ -n "$$VIRTUAL_ENV" ] || echo 'For these commands, once in each terminal: . $(BIN)/activate'

demo: setup
	$(BIN)/python app.py --open

# Three processes for two cores: many tests wait for servers, pages and other processes.
test: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-quick: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow and not browser" \
		--ignore tests/integration --ignore tests/browser

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Strict: a link, anchor, image or name that leads nowhere fails, and a page that no menu has.
docs: setup
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs . build/docs
	@echo 'Open      build/docs/index.html (make docs-serve: its search then shows excerpts)'

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs 8000

# Builds into dist/, then installs, trains and serves that in an empty environment: some minutes.
dist: setup
	$(BIN)/python scripts/check_release.py

clean:
	rm -rf dist build .pytest_cache .ruff_cache
