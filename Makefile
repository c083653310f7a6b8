# make build | test | verify | packages | demo | torture | lint | bench | clean

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A tagged commit is a release; what comes after one sorts after it and before
# the next: 1.2.0 < 1.2.1-dev.7+abc1234 < 1.2.1.
VERSION ?= $(shell .ci/version)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
ARCH    ?= $(shell go env GOARCH)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# Tools are built once per version, outside of the tree.
TOOLS    ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/trued-tools
NFPM     := $(TOOLS)/nfpm-v2.45.2
GOLANGCI := $(TOOLS)/golangci-lint-v2.15.0

# Nothing here speaks HTTP/2: half a megabyte that is left out.
TAGS := nethttpomithttp2

.PHONY: build
build:
	@mkdir -p bin
	CGO_ENABLED=0 GOARCH=$(ARCH) go build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/trued ./cmd/trued

.PHONY: demo
demo: build
	bin/trued demo

# Man pages and completions, written by the program itself; the former by one
# that is built for it, and that runs here whatever it is packaged for.
.PHONY: doc
doc: build
	@rm -rf bin/doc && mkdir -p bin/doc/man bin/doc/completion
	@GOARCH= go run -trimpath -tags generate,$(TAGS) -ldflags '$(LDFLAGS)' ./cmd/trued generate man bin/doc/man && gzip -9n bin/doc/man/*
	@for shell in bash zsh fish; do bin/trued completion $$shell >bin/doc/completion/trued.$$shell || exit; done

.PHONY: packages
packages: doc $(NFPM)
	@rm -rf dist && mkdir -p dist
	@for kind in deb rpm; do SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) VERSION='$(VERSION)' ARCH=$(ARCH) $(NFPM) package --config packaging/nfpm.yaml --packager $$kind --target dist/ >/dev/null || exit; done
	@ls dist/*

# All tests. As root on Debian it first installs what they need.
.PHONY: test
test: setup packages
	@.ci/test

# Cuts runs off in every way, over a tree and on booted hosts, prints what that
# came to, has an ordinary user race 10,000 runs, and reads the largest of an
# enemy's repositories, and makes a storm of 100,000 changes; the tests have a
# sample of each. A failure says with what TORTURE_SEED, and in what round (TORTURE_FROM),
# it comes again.
TORTURE_SEED ?= $(shell date +%s)
.PHONY: torture
torture: setup packages
	@mkdir -p bin
	@echo "TORTURE_SEED=$(TORTURE_SEED)"
	@TORTURE=full TORTURE_SEED=$(TORTURE_SEED) go test -timeout 0 -count 1 -v $(TORTURE_FLAGS) ./packaging/torture/ \
		| tee bin/torture.log | grep --line-buffered -Ev '^=== |^ *--- PASS'
	@sed -n 's/.*FIGURE //p' bin/torture.log
	TORTURE=full go test -timeout 0 -count 1 -v -run TestAnOrdinaryUserWinsNoRace ./agent
	TORTURE=full go test -timeout 0 -count 1 ./packaging/hostile
	@$(MAKE) torture-recovery
	TORTURE=full go test -timeout 0 -count 1 -v -run TestAStormFillsNoMemory ./packaging/drift

# The part of it that is about the way back: a hundred random rounds, and all cases
# of a dead agent. TORTURE_FROM is the round to begin with.
.PHONY: torture-recovery
torture-recovery: setup packages
	@echo "TORTURE_SEED=$(TORTURE_SEED)"
	TORTURE=full TORTURE_SEED=$(TORTURE_SEED) go test -timeout 0 -count 1 -v ./packaging/recovery ./packaging/rescue

.PHONY: setup
setup:
	@.ci/setup

.PHONY: lint
lint: $(GOLANGCI)
	@$(GOLANGCI) run --allow-parallel-runners ./...

# All that can be wrong without a test that fails.
.PHONY: verify
verify: lint build
	@.ci/verify

# Figures, not proofs: trued beside CFEngine, Puppet, Ansible and the least that
# the work takes, into testdata/bench/results.md (BENCH=quick prints a few, in
# minutes); an update beside git's own, a run over a host that is in order, and
# events from the ledger to a receiver on one core.
.PHONY: bench
bench: setup build
	go test ./packaging/bench -run '^$$' -bench BesideOthers -benchtime 1x -timeout 0 -v
	go test ./internal/source -run '^$$' -bench Update -benchtime $(if $(filter quick,$(BENCH)),3x,20x) -timeout 60m
	go test ./agent -run '^$$' -bench RunInOrder -benchtime $(if $(filter quick,$(BENCH)),3x,20x)
	go test ./agent -run '^$$' -bench EventsThroughASpool -cpu 1 -benchtime $(if $(filter quick,$(BENCH)),3x,20x)

.PHONY: clean
clean:
	rm -rf bin dist

$(NFPM):
	@.ci/tool $@ github.com/goreleaser/nfpm/v2/cmd/nfpm
$(GOLANGCI):
	@.ci/tool $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
