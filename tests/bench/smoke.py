#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs `shmb_bench --json --quick` and checks that every figure comes out and parses. Judges no time."""

import json
import os
import subprocess
import sys

TWO_PROCESSES = ["attach", "attach_told", "attach_memfd", "create_remove", "resize", "rtt", "handoff_sleeping", "sem_handoff_cold",
                 "owner_death"]
SINGLE_OPERATIONS = ["owner_death"]
# What a figure that needs two CPUs is shown beside, if anything.
HOT = {"handoff_64": "socket", "handoff_4k": "socket", "handoff_1m": "socket", "handoff_64m": "socket",
       "sem_handoff_hot": "sem_t", "lock_readers_2cpu": None, "lock_mix_90_10": None, "lock_mix_50_50": None}
OTHERS = ["read_4k", "read_64k", "read_1m", "read_64m", "write_4k", "write_64k", "write_1m", "write_64m", "read_u32",
          "read_guarded", "write_guarded",
          "lock_shared_pair", "lock_exclusive_pair", "lock_exclusive_2", "lock_exclusive_64", "lock_exclusive_256",
          "lock_exclusive_1024", "sem_pair", "sem_pair_owned", "waiter_cpu_sem", "waiter_cpu_lock",
          "regions_100k", "open_at_100k", "clients_5k", "flush_async_64m",
          "recover_100k", "manifest_100k", "resume",
          "read_u8", "write_u8", "write_u32", "read_string", "write_string", "atomic_add", "cursor_read_64",
          "cursor_write_64", "walk_1g", "create_fill_1g", "create_fill_1g_vs_ordinary"]


def expected(cpus):
    names = set(OTHERS)
    for name in TWO_PROCESSES:
        placed = {name, name + "_1cpu"} | ({name + "_2cpu"} if cpus > 1 else set())
        names |= placed
        if name in SINGLE_OPERATIONS:
            names |= {one + "_p99" for one in placed}
    if cpus > 1:
        for name, beside in HOT.items():
            names |= {name} | ({name + "_vs_" + beside} if beside else set())
    return names


def main():
    cpus = len(os.sched_getaffinity(0))
    run = subprocess.run([sys.argv[1], "--json", "--quick"], stdout=subprocess.PIPE, text=True, timeout=100)
    seen = {}
    for line in run.stdout.splitlines():
        figure = json.loads(line)
        assert set(figure) == {"name", "ours", "floor", "ratio", "unit", "n"}, line
        assert figure["name"] not in seen, "twice: " + line
        assert figure["ours"] > 0 and figure["floor"] > 0 and figure["n"] >= 3, line
        assert abs(figure["ratio"] - figure["ours"] / figure["floor"]) <= 0.01 * figure["ratio"], line
        assert figure["unit"] in ("ns", "us", "bytes"), line
        seen[figure["name"]] = figure
    missing, strange = expected(cpus) - set(seen), set(seen) - expected(cpus)
    assert not missing, "missing: " + ", ".join(sorted(missing))
    assert not strange, "unexpected: " + ", ".join(sorted(strange))
    # On one CPU the hot figures cannot be measured, and the benchmark says so with its status.
    assert run.returncode == 0 or cpus < 2, "exit status %d" % run.returncode


main()
