# `make` lists what there is. Every cargo command covers the whole workspace: another selection of packages
# would select other features of the dependencies, and build them again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# For the program (`devnet`, `bench`) or the test runner (`test`), for example: make devnet ARGS="--validators 7"
ARGS ?=

ENV := . deploy/setup/env.sh

# Lints that are for code that runs in production. Tests index, unwrap, cast and calculate: a panic is a failed test.
TEST_LINTS_OFF := arithmetic_side_effects cast_possible_truncation cast_sign_loss unwrap_used indexing_slicing panic \
	wildcard_enum_match_arm let_underscore_must_use float_arithmetic too_many_lines missing_errors_doc missing_panics_doc \
	print_stdout print_stderr large_futures unused_async

# Part of clippy's arguments, so that its results are kept per clone (see deploy/setup/env.sh).
CLIPPY_CLONE := --cfg 'lockstep_clone="$(CURDIR)"'

# Seeds of the simulator.
SEEDS ?= 0..10000
SEED ?= 0

# The simulator is a build of its own, because its signatures are a keyed hash: of our crates alone, and those it spends its time
# in are compiled for speed.
SIM = $(ENV) && cargo test --quiet --workspace --locked --features lockstep-sim/simulator --test sim \
	$(foreach crate,core engine consensus sim,--config 'profile.dev.package.lockstep-$(crate).opt-level=3') --

# A devnet of the log alone, and its help, need no programs but ours.
WITH_PEERS := $(if $(filter --log-only --help -h,$(ARGS)),,--peers)

.PHONY: help setup peers build release devnet test test-release sim sim-replay sim-mutants interop bench attacks lint fmt doc vectors deny env clean-cache

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install or fetch what this machine lacks (libclang, RocksDB's library; 15 s)
	@deploy/setup/setup.sh

peers: ## Build op-node, op-batcher, op-conductor, op-geth and fetch anvil, once per machine (3 min, 270 MB; 2 GB in Go's caches)
	@deploy/setup/peers.sh

build: ## Build the `lockstep` program, for this machine
	@deploy/setup/build.sh

release: ## Build the program to ship, target/release/lockstep: RocksDB from source and inside, overflow checks (22 min, then 7)
	@deploy/setup/release.sh

devnet: ## Run L1, four validators and two OP chains; Ctrl-C stops all (ARGS="--log-only", ARGS=--help)
	@deploy/setup/build.sh $(WITH_PEERS)
	@$(ENV) && exec "$$LOCKSTEP_BIN" devnet $(ARGS)

# The scenarios start the program, and `cargo test` alone would not build it.
test: ## Run all tests (ARGS="tidy" runs those with tidy in the name)
	@deploy/setup/build.sh --tests
	@$(ENV) && cargo test --workspace --locked $(ARGS)

test-release: build release ## Run the store's tests on both RocksDB libraries; open homes of each program with the other
	@$(ENV) && cargo test --workspace --locked --lib store::
	@export LOCKSTEP_ROCKSDB=source; $(ENV) && cargo test --workspace --locked --lib store::
	@$(ENV) && cargo build --workspace --locked && \
		LOCKSTEP_RELEASE_BIN="$$CARGO_TARGET_DIR/release/lockstep" cargo test --workspace --locked --test release

sim: setup ## Run whole validators in virtual time against faults and an attacker (SEEDS=0..10000), and some seeds twice
	@$(SIM) twice 0..20 && $(SIM) run $(SEEDS)

sim-replay: setup ## Run one seed of the simulator and print what happens (SEED=7)
	@$(SIM) replay $(SEED)

sim-mutants: setup ## Plant bugs in the simulator's validators, one at a time; each must be found (SEEDS=0..10000)
	@$(SIM) bugs $(SEEDS)

interop: ## Run the end-to-end suite against real op-node, op-batcher, op-conductor and op-geth (ARGS=tier_one: its first tier)
	@deploy/setup/build.sh --peers
	@$(ENV) && cargo test --workspace --locked --test interop -- --test-threads=1 --nocapture $(ARGS)

bench: release ## Measure throughput, latency, memory and disk of four validators, as they ship
	@$(ENV) && exec "$$CARGO_TARGET_DIR/release/lockstep" bench $(ARGS)

attacks: ## Attack four validators; compare blocks and latency with those of the same run without (11 min; ARGS=lane,votes: those with one of these in the name)
	@deploy/setup/build.sh
	@$(ENV) && LOCKSTEP_ATTACKS="$(ARGS)" cargo test --workspace --locked --test attacks -- --nocapture

lint: setup ## Check the format, then clippy: first what ships, then the tests
	@cargo fmt --all --check
	@$(ENV) && cargo clippy --workspace --locked --lib --bins -- -D warnings $(CLIPPY_CLONE)
	@$(ENV) && for targets in --tests "--test interop" "--test release" "--test attacks"; do \
		cargo clippy --workspace --locked $$targets -- -D warnings $(TEST_LINTS_OFF:%=-A clippy::%) $(CLIPPY_CLONE); done

fmt: ## Format the code
	@cargo fmt --all

doc: setup ## Build the documentation; a broken link fails
	@$(ENV) && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

vectors: build ## Write the golden vectors anew: a breaking change, for a commit of its own
	@$(ENV) && LOCKSTEP_BLESS=1 cargo test --workspace --locked --test vectors
	@git diff --stat -- tests/vectors || true

deny: ## Check licences, bans and sources of all dependencies, where cargo-deny is installed
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; \
	else echo "cargo-deny is not installed: cargo install --locked cargo-deny (about 10 min)"; fi

env: ## Print the environment cargo needs, for a shell: eval "$(make -s env)"
	@echo '. "$(CURDIR)/deploy/setup/env.sh"'

clean-cache: ## Show what the builds of all clones share, and remove it after a question (YES=1: without)
	@deploy/setup/clean-cache.sh
