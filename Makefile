# Needs make and Python 3.11 or newer with venv. Everything else is fetched, into .tools and .venv.
PYTHON ?= python3
UV_VERSION := 0.13.9
GRPCURL_VERSION := v1.9.4

UV := $(shell command -v uv || echo .tools/uv/bin/uv)
BIN := .venv/bin
PROTOS := $(shell cd protos && find spark -name '*.proto' | sort)
PROTOS_OUT := protos
# More of them, in directories with a colon between.
export SPARK_TEST_TEMPLATES ?= $(CURDIR)/.tools/templates
export SPARK_TEST_MISTRAL ?= $(CURDIR)/.tools/mistral-common-1.8

.PHONY: help setup demo story test templates check lint check-protos check-compose smoke bench torture bugs picture lock protos generate grpcurl clean

help: ## Lists what make can do.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 	\2/p' Makefile

setup: .venv/stamp ## Makes .venv from the lock file.

demo: setup ## Shows an agent take an interrupt, with nothing else installed.
	$(BIN)/sparkctl demo

story: setup ## Plays how an agent tunes a model and sleeps until that is done; then with a crash in the middle.
	$(BIN)/python -m examples.optimizer.story
	$(BIN)/python -m examples.optimizer.story --kill

test: setup grpcurl templates ## Runs the tests.
	$(BIN)/pytest

templates: .tools/templates .tools/mistral-common-1.8 ## Fetches chat templates of real models, and what else judges them.

check: lint check-protos check-compose test smoke ## Checks everything.

lint: setup ## Checks style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-protos: setup ## Checks the contract. That the generated code is fresh is a test.
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos

check-compose: setup ## Checks docker-compose.yml against its schema.
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

smoke: setup ## Runs each benchmark for a moment.
	$(BIN)/python -m benchmarks --smoke

bench: setup ## Runs the benchmarks; puts their figures into the README, with plots.
	$(BIN)/python -m benchmarks --json benchmarks.json --plots docs --readme README.md

# What a run leaves behind is in build/torture-SEED.
SECONDS ?= 60
SEED ?= 1
torture: setup ## Kills, freezes, cuts and restarts everything for SECONDS, and judges what came of it (SEED).
	$(BIN)/python -m tests.torture --seconds $(SECONDS) --seed $(SEED) --out build/torture-$(SEED)

bugs: setup ## Tortures copies of the product, each with another bug in it, until that is found.
	$(BIN)/python -m tests.torture.bugs --out build/bugs

picture: setup ## Makes the README's picture of a session that is watched.
	$(BIN)/python -m sparkctl.picture docs/watch.svg

lock: | $(UV) ## Writes the lock file from pyproject.toml; without it, everything in it becomes newer.
	$(UV) pip compile pyproject.toml --quiet --all-extras --group dev --universal \
		--python-version 3.11 --generate-hashes --no-header --output-file requirements.lock

protos: setup ## Formats the contract and generates its code.
	$(BIN)/buf format --write protos
	$(MAKE) generate

# Into PROTOS_OUT: a test generates into a directory of its own and compares.
generate:
	$(BIN)/python -m grpc_tools.protoc -I protos \
		--plugin=$(BIN)/protoc-gen-mypy --plugin=$(BIN)/protoc-gen-mypy_grpc \
		--python_out=$(PROTOS_OUT) --grpc_python_out=$(PROTOS_OUT) \
		--mypy_out=$(PROTOS_OUT) --mypy_grpc_out=$(PROTOS_OUT) $(PROTOS)

grpcurl: .tools/grpcurl.tried ## Fetches grpcurl where there is Go.

clean: ## Removes what was fetched.
	rm -rf .venv .tools

.venv/stamp: requirements.lock pyproject.toml | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make PYTHON=python3.12, for example' >&2; exit 1; }
	test -x $(BIN)/python || $(UV) venv --quiet --clear --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.tools/templates: tests/templates/packages/templates.txt | $(UV) .venv/stamp
	@rm -rf $@ $@.packages
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target $@.packages -r $<
	@mkdir $@ && cd $@.packages && find . -name '*.jinja' | \
		sed -E 's#^./([^/]+)/.*/([^/]+)$$#mv & ../templates/\1-\2#' | sh
	@rm -rf $@.packages

# Without what it needs, which is what the newer one needs.
.tools/mistral-common-1.8: tests/templates/packages/mistral-1.8.txt | $(UV) .venv/stamp
	@rm -rf $@
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target $@ -r $<
	@touch $@

.tools/uv/bin/uv:
	@$(PYTHON) -m venv --clear .tools/uv || { rm -rf .tools/uv; \
		echo '$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Tried once. Without grpcurl the tests call the services with buf, which is always there.
.tools/grpcurl.tried:
	@mkdir -p .tools/bin
	@command -v grpcurl || \
		GOBIN=$(CURDIR)/.tools/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION) || \
		echo 'grpcurl is not to be had here: the tests use buf curl'
	@touch $@
