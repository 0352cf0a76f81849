# `make` alone says what there is. Everything runs on the Node that npm installs here, not on the machine's own.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo env PATH="$(PATH)")
.DEFAULT_GOAL := help
.PHONY: help setup setup-packaging check test demo bench deb packages repo image fmt

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: ## install what is missing: Debian packages, npm packages
	@scripts/setup.sh

setup-packaging:
	@scripts/setup.sh packaging

check: setup ## format, lint, types, import rings, unit and property tests: under a minute
	@npm run --silent check

test: setup-packaging ## everything: the checks and all suites; ends with "N passed, N failed"
	@node scripts/test.ts

demo: setup ## a mesh on this machine in a minute: join a VM, call both ways, look around
	@$(SUDO) node src/agent/main.ts demo

bench: setup ## against HAProxy in the same run; BENCH_SECONDS=2 shortens it
	@node bench/load/bench.ts

deb: setup ## the Debian package for this machine, into dist/
	@node packaging/build.ts deb

packages: setup-packaging ## .deb and .rpm for amd64 and arm64, into dist/
	@node packaging/build.ts packages

repo: setup-packaging ## those in a signed apt and yum repository, dist/repo; SIGNING_KEY=, REPOSITORY_URL=
	@node packaging/build.ts repo

image: setup-packaging ## the container image for amd64 and arm64, an OCI layout as tar, into dist/
	@node packaging/build.ts image

fmt: setup ## format and sort imports
	@npm run --silent format
