# A thin layer over the CMake presets: each target installs what is missing, configures, builds and runs.
# `make help` tells which targets there are; CONTRIBUTING.md tells more.

PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
KILLS ?= 50000
SECONDS ?= 0
SEED ?=
PRESET ?= dev
TESTS ?=
# What to put before ctest, such as `setarch -R` for sanitizers on kernels whose address space they do not know.
RUN ?=

# No built-in rules: nothing here is made by make itself.
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := all
.PHONY: help all demo test test-systemd bench storm storm-daemon install lint format tidy fuzz valgrind model coverage deps deps-ci clean

help:
	@echo 'make demo        build, then move a real file through shared memory and verify it [FILE=path]'
	@echo 'make test        build and run every test                 [PRESET=dev|release|clang|asan|tsan|generic]'
	@echo 'make test-systemd  boot a real systemd in a namespace, install there, test the units     (root; 77: skipped)'
	@echo 'make bench       build and measure, each figure beside its floor            [ARGS="--json NAME"]'
	@echo 'make storm       locks and semaphores while processes are killed  [KILLS=50000 SECONDS=0 SEED=number]'
	@echo 'make storm-daemon  the same and more while the broker is killed   [KILLS=1000 SECONDS=0 SEED=number]'
	@echo 'make install     library, headers, daemon, command, units, manual  [PREFIX=/usr/local DESTDIR=]'
	@echo 'make lint        layers, exports, format, documents'
	@echo 'make format      lay out every C and C++ file as .clang-format says'
	@echo 'make tidy        clang-tidy, its analyzer included'
	@echo 'make fuzz        run each fuzzer                                             [FUZZ_SECONDS=60]'
	@echo 'make valgrind    the tests of rows F01 to F39 under memcheck                  [TESTS=regex]'
	@echo 'make model       check the models of locks and semaphores with spin, mutations included'
	@echo 'make coverage    run the tests with gcov and print the share of lines they reach'
	@echo 'make deps        install the missing Debian packages, nothing else'
	@echo 'make clean       remove build/'

all: deps
	cmake --preset release >/dev/null
	cmake --build --preset release -j $(JOBS)

demo: deps
	cmake --preset release >/dev/null
	cmake --build --preset release -j $(JOBS) --target shmbrokerd shmbctl examples/all
	build/release/cli/shmbctl run -- build/release/examples/demo $(FILE)

test: deps
	cmake --preset $(PRESET) >/dev/null
	cmake --build --preset $(PRESET) -j $(JOBS)
	@$(RUN) ctest --preset $(PRESET) -j $(JOBS) $$(test ! -t 1 || echo --progress)

# Where no systemd can be booted it says so, and that is no failure of what is tested.
test-systemd: deps-ci all
	tests/systemd/run build/release || test $$? -eq 77

bench: all
	build/release/tests/bench/shmb_bench $(ARGS)

storm: all
	STORM_KILLS=$(KILLS) STORM_SECONDS=$(SECONDS) STORM_SEED=$(SEED) build/release/tests/storm/storm kills

# Half of it with regions in /dev/shm, half with memfds and a store.
storm-daemon: KILLS = 1000
storm-daemon: all
	STORM_KILLS=$$(($(KILLS) / 2)) STORM_SECONDS=$$(($(SECONDS) / 2)) STORM_SEED=$(SEED) \
		build/release/tests/storm/storm_daemon

install: deps
	cmake --preset release -DCMAKE_INSTALL_PREFIX=$(PREFIX) >/dev/null
	cmake --build --preset release -j $(JOBS)
	DESTDIR=$(DESTDIR) cmake --install build/release
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" -eq 0 ]; then ldconfig; fi

lint: deps-ci
	cmake --preset dev >/dev/null
	cmake --build --preset dev -j $(JOBS)
	ctest --preset dev -L lint

format: deps-ci
	tests/lint/format . -i

tidy: deps-ci
	cmake --preset dev >/dev/null
	cmake --build --preset dev -j $(JOBS)
	tests/tools/tidy build/dev $(JOBS)

fuzz: deps-ci
	cmake --preset fuzz >/dev/null
	cmake --build --preset fuzz -j $(JOBS) --target tests/fuzz/all
	tests/tools/fuzz build/fuzz $(FUZZ_SECONDS) $(JOBS)

valgrind: deps-ci
	cmake --preset dev >/dev/null
	cmake --build --preset dev -j $(JOBS)
	tests/tools/valgrind build/dev $(JOBS) "$(TESTS)"

model: deps-ci
	tests/model/check --jobs $(JOBS) build/model

coverage: deps
	cmake --preset coverage >/dev/null
	cmake --build --preset coverage -j $(JOBS)
	find build/coverage -name '*.gcda' -delete
	ctest --preset coverage -j $(JOBS)
	tests/tools/coverage build/coverage

deps:
	@.ci/install-packages build

deps-ci:
	@.ci/install-packages build ci

clean:
	rm -rf build
