# Two commands matter: `make demo` and `make test`. Both do all set-up; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-scale-out scale-out-% lint golden released bench-% audit licences sanitize leak torture clean

export ONNXRUNTIME_NODE_INSTALL = skip
SEED ?= 1
REID_GOLDEN ?= test/golden
REID_REAL ?= ../shared/real
export REID_GOLDEN REID_REAL

reid = node dist/src/cli/main.js
runner = node --test --test-reporter=./build/quiet-reporter.js --test-concurrency=2

help: ## this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## Debian packages, npm packages, the addon, the build: only what is missing
	@build/setup.sh

demo: ## the whole circle on rendered crops: out/demo/demo.json and report.html (SEED=N)
	@started=$$(date +%s%3N); build/setup.sh; \
	echo 'demo: rendering, training, serving and searching; about four minutes'; \
	$(reid) demo --seed $(SEED) --setup-ms $$(( $$(date +%s%3N) - started ))

test: ## every test
	@build/setup.sh
	@echo 'test: lint, then every suite'
	@build/checks.sh
	@$(runner) $$(find dist/test -name '*.test.js' | sort)

lint: ## formatting, lint rules and the import table
	@build/setup.sh npm
	@build/checks.sh

golden: ## agreement with the reference's numbers (REID_GOLDEN=folder); ends with a line for each failed case
	@build/setup.sh
	@REID_FAILED_CASES=last $(runner) $$(find dist/test -name '*.golden.test.js' | sort)

released: ## a small data folder of this version into test/released, for the tests of later ones; once a release
	@build/setup.sh
	@node dist/test/support/make-released.js

bench-index: ## the gallery's index against its peers (PART=search,recall,filters,crossover,singles,bulk,sustained,beside,start,memory,blocking)
	@build/setup.sh
	@node dist/bench/gallery-index.js

bench-%: ## one bench: train, clustering, presets, … (QUICK=1, SEED=N)
	@build/setup.sh
	@test -f dist/bench/$*.js || { echo "there is no bench $*: $$(ls dist/bench/*.js | xargs -n1 basename -s .js | tr '\n' ' ')"; exit 2; }
	@node dist/bench/$*.js

torture: ## kills, torn writes and failing disks, against a model: out/bench/torture.json (KILLS=200, QUICK=1, SEED=N)
	@build/setup.sh
	@node dist/bench/torture.js

audit: ## known weaknesses of the dependencies, where the registry answers
	@build/audit.sh

licences: ## the licence of every dependency
	@build/setup.sh npm
	@node build/licences.js

sanitize: ## the addon's tests under ASan and UBSan, and again under TSan
	@build/setup.sh
	@build/addon.sh --sanitize
	@build/addon.sh --sanitize=thread

leak: ## two minutes of every call on every kind of index, in flat memory (REID_LEAK_MINUTES=30)
	@build/setup.sh
	@REID_LEAK_MINUTES=$${REID_LEAK_MINUTES:-2} node --test dist/test/index/faiss-leak.test.js

scale-out-%: ## a PostgreSQL and a Milvus of this checkout: scale-out-up, scale-out-down
	@build/scale-out.sh $*

test-scale-out: ## the galleries on PostgreSQL and Milvus: starts both, runs test/scale-out, stops both
	@build/setup.sh
	@build/scale-out.sh test || { code=$$?; [ $$code = 3 ] && echo 'test-scale-out: skipped' || exit $$code; }

clean: ## removes what was built and what was run
	@rm -rf dist out build/.stamps native/build
