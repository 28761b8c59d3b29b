# The words of this project. `make demo` and `make test` need nothing but a machine that tools/setup can make ready.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# rustup's folder is not on the path of every shell.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
export CLOUD_INIT_PYTHON ?= $(CURDIR)/.cache/venv/bin/python
profile := $(if $(CI),ci,default)

.PHONY: help setup setup-tests build guest check fmt clippy house doc buf demo test scripts doctest suite bench soak audit

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1~\2/p' Makefile | column -t -s '~'

setup: ## installs what building and running need
	tools/setup

setup-tests:
	tools/setup tests

build: setup ## builds computelet and computectl
	cargo build --workspace --locked

guest: setup ## builds the tiny guest that demo and tests boot
	tests/guest/build

demo: build ## shows a guest being spawned, watched and taken away
	tools/demo

check: fmt clippy house doc buf ## all that reads the source without running it

fmt: setup-tests
	cargo fmt --all --check

clippy: setup-tests
	cargo clippy --workspace --all-targets --locked -- -D warnings

house: setup-tests
	cargo test --locked --test house

doc: setup-tests
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

# The wire is compared with that of the last release, once there is one.
buf: setup-tests
	tools/buf

test: ## everything that CI runs: check, then every test
	@tools/room
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory scripts
	@$(MAKE) --no-print-directory doctest
	@$(MAKE) --no-print-directory suite

scripts: setup-tests
	tools/tests/apt
	tests/host/check

doctest: setup-tests
	cargo test --workspace --locked --doc

# Without nextest (cargo install --locked cargo-nextest) the tests of one binary share a process, and nothing limits their time.
suite: guest setup-tests build
	if cargo nextest --version > /dev/null 2>&1; then
		cargo nextest run --workspace --locked --profile $(profile)
	else
		cargo test --workspace --locked --no-fail-fast --lib --bins --tests -- --test-threads=2
	fi

# Never part of the tests: figures of a busy machine say nothing. BENCH=PART measures one part and only prints.
bench: guest setup-tests ## measures computelet beside its peers, and writes docs/benchmarks.md
	cargo build --release --locked -p computelet -p computelet-bench
	benches/run

# Never part of the tests: what comes when is chance. SEED=N and TURNS=N as wanted.
soak: build guest setup-tests ## asks a real server random things and kills it at random moments
	.cache/venv/bin/python tests/soak/soak.py target/debug/computelet .cache/guest/current $(or $(SEED),$(shell date +%s)) $(TURNS)

# Apart from the rest: cargo-deny takes minutes to build.
audit: setup ## licences, bans and sources of the dependencies; advisories where their database can be had
	cargo deny --version > /dev/null 2>&1 || cargo install --locked cargo-deny@0.20.2
	cargo deny check bans licenses sources
	if cargo deny fetch db; then cargo deny check advisories; else echo 'advisories: NOT CHECKED, no database'; fi

.ONESHELL:
