# Needs nothing but make and Python 3.11 or newer. Everything is installed into .venv, from exact versions with hashes.

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough and can make environments; `make PYTHON=/path/to/python` overrides. A distribution's
# own is built with profiles: a quarter faster than most that were compiled on a machine.
PYTHON ?= $(shell for each in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
SEEDS ?= 2000
# Where tests need installed programs: only what is given is read, which takes each worker ten seconds for all of them.
INSTALLED = $(shell grep -lrE 'mark\.(mosquitto|debian|chromium)' --include='*.py' tests | sed 's|/conftest.py$$||')
# Tests wait for processes of their own, so one more of them than there are processors.
WORKERS ?= $(shell expr $$(nproc) + 1)

# Tests start hundreds of processes; what they import is compiled once, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-installed test-pages test-install check sbom asyncapi asyncapi-html audit format sim power-cut crash-states crash storm site mutants fuzz fuzz-guided bench-simulation bench-crowd bench-planning bench-agent bench-rollback bench-restart bench-brake bench-ingest bench-evaluators bench-judging bench-nab bench-delta bench-scrape bench-pieces lock clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/demo ## See it work: a bad release is stopped at the canary, a good one reaches the fleet.
	$(BIN)/tidegate demo $(DEMO)

test: $(VENV)/dev ## All tests that need nothing installed.
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not mosquitto and not debian and not chromium and not index and not pages" $(TESTS)

test-installed: $(VENV)/dev ## Tests that need Debian's packages: mosquitto, mosquitto-clients, gpg, gpgv, strace, prometheus (promtool), chromium.
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "(mosquitto or debian or chromium) and not pages" $(or $(TESTS),$(INSTALLED))

test-pages: $(VENV)/dev ## Type every page of the documentation as a reader would; needs mosquitto, mosquitto-clients, gpg, openssl, curl, sqlite3.
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m pages $(TESTS)

test-install: $(VENV)/dev ## Install what is built into empty environments, and run the demo there; needs a package index.
	$(BIN)/pytest -m index $(TESTS)

check: $(VENV)/dev ## Style, types and layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

sbom: $(VENV)/dev ## What is in an install, as CycloneDX: dist/tidegate.cdx.json, always the same for the same lock.
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --validate \
		--output-file dist/tidegate.cdx.json

asyncapi: ## Have AsyncAPI's official parser look at docs/asyncapi.json; needs node and npm.
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/npm @asyncapi/parser@3.6.6
	cp tests/vectors/asyncapi.mjs $(VENV)/npm/check.mjs
	node $(VENV)/npm/check.mjs docs/asyncapi.json

asyncapi-html: ## Topics and messages as one page, dist/asyncapi.html, with AsyncAPI's own viewer; needs node and npm.
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/npm @asyncapi/react-component@3.2.1
	node docs/asyncapi_html.mjs $(VENV)/npm/node_modules/@asyncapi/react-component docs/asyncapi.json dist/asyncapi.html

audit: $(VENV)/dev ## Known vulnerabilities of what is in the lock; asks the vulnerability service, and fails when it gives no answer.
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement requirements.lock

format: $(VENV)/dev ## Bring the code into shape.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sim: $(VENV)/demo ## Simulate SEEDS worlds with faults; stops at the first violated invariant.
	$(BIN)/tidegate simulate --seeds $(SEEDS) $(SIM)

power-cut: $(VENV)/dev ## Kill the agent, and fail its disk, at every system call that changes a file; needs strace.
	$(BIN)/python -m tests.device.power_cut $(POWER_CUT)

crash-states: $(VENV)/dev ## Start a device from every state that a power cut may leave on its disk.
	$(BIN)/python -m tests.device.crash_states $(CRASH_STATES)

crash: $(VENV)/dev ## Kill the orchestrator, and fail its disk, at every system call of a rollout; needs strace.
	$(BIN)/python -m tests.end_to_end.orchestrator_crash $(CRASH)

storm: $(VENV)/dev ## Storms and floods by thousands of devices against an orchestrator over a real broker; needs mosquitto, strace.
	$(BIN)/python -m tests.storm.campaign $(STORM)

site: $(VENV)/dev ## Fifty agents of one site in network namespaces behind a narrow line, with and without neighbours; needs iproute2.
	unshare --map-root-user --net --mount --pid --fork --kill-child --mount-proc \
		sh -c 'mount -t tmpfs none /run && exec "$$@"' site $(BIN)/python -m tests.site.campaign $(SITE)

mutants: $(VENV)/dev ## Plant bugs in copies of the product, one at a time, and see which test notices.
	$(BIN)/python -m tests.mutants.campaign $(MUTANTS)

fuzz: $(VENV)/dev ## Feed every decoder a million payloads that somebody evil might send.
	$(BIN)/python -m tests.fuzz.campaign $(FUZZ)

fuzz-guided: $(VENV)/fuzz ## The same, led by what the payloads reach in our code; needs Linux on x86-64 or ARM.
	$(BIN)/python -m tests.fuzz.guided $(FUZZ)

bench-simulation: $(VENV)/demo ## How long a whole rollout takes in the simulator.
	$(BIN)/python benchmarks/simulation.py

bench-crowd: $(VENV)/demo ## How long a rehearsal of a rollout to a million devices takes.
	$(BIN)/python benchmarks/crowd.py

bench-rollback: $(VENV)/demo ## How long a rollback takes until the last of 10,000 connected devices has its order.
	$(BIN)/python benchmarks/rollback.py

bench-restart: $(VENV)/demo ## How long a restart takes in the middle of a rollout to a million devices.
	$(BIN)/python benchmarks/restart.py

bench-brake: $(VENV)/demo ## How long the emergency brake takes to the last of 10,000 connected devices.
	$(BIN)/python benchmarks/brake.py

bench-ingest: $(VENV)/demo ## How fast the health of a million devices becomes evidence, and evidence a rollback; needs mosquitto.
	$(BIN)/python benchmarks/ingest.py

bench-evaluators: $(VENV)/demo ## What a sample costs the orchestrator when an evaluator has read it, and what when it has not.
	$(BIN)/python benchmarks/evaluators.py

bench-judging: $(VENV)/demo ## How long one look at a million deployed devices takes.
	$(BIN)/python benchmarks/judging.py

bench-scrape: $(VENV)/demo ## What a scrape of a million devices in a rollout costs.
	$(BIN)/python benchmarks/scrape.py

bench-nab: $(VENV)/demo ## What triggers and checks make of the Numenta Anomaly Benchmark's series; NAB=folder of its data.
	$(BIN)/python benchmarks/nab.py $(NAB)

bench-agent: $(VENV)/demo ## What an idle agent takes of its device: memory, processor, disk.
	$(BIN)/python benchmarks/agent.py

bench-pieces: $(VENV)/demo ## What an artifact of 20 MB over the broker takes, and what others on it notice; needs mosquitto.
	$(BIN)/python benchmarks/pieces.py --broker embedded
	$(BIN)/python benchmarks/pieces.py --broker mosquitto
	$(BIN)/python benchmarks/pieces.py --broker mosquitto --rate 2MB

bench-delta: $(VENV)/dev ## What an update takes when a part has changed, on public packages; needs zstd and a package registry.
	$(BIN)/python benchmarks/delta.py

bench-planning: $(VENV)/demo ## How long the plan for a million devices takes.
	$(BIN)/python benchmarks/planning.py

lock: $(VENV)/dev ## Resolve the exact versions anew.
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade $(LOCK_OPTIONS) --output-file=requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade $(LOCK_OPTIONS) --extra=zstd --extra=notify --extra=objects --extra=otel --extra=dev --output-file=requirements-dev.lock pyproject.toml
	echo "atheris>=3" | $(BIN)/pip-compile --quiet --upgrade $(filter-out --extra=%,$(LOCK_OPTIONS)) --output-file=requirements-fuzz.lock -

LOCK_OPTIONS := --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	--strip-extras --extra=orchestrator --extra=build

$(VENV)/demo: requirements.lock pyproject.toml
	$(call make_environment,requirements.lock)

$(VENV)/dev: requirements-dev.lock pyproject.toml
	$(call make_environment,requirements-dev.lock)

$(VENV)/fuzz: requirements-fuzz.lock $(VENV)/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	@touch $@

define make_environment
	@test -n "$(PYTHON)" || { echo "needs Python 3.11 or newer with venv; on Debian: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

clean: ## Remove the environment and caches.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
