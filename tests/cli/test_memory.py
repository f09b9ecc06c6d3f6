#!/usr/bin/python3
"""What a region's memory is and what is done to it: huge pages, pin, populate, advise, features."""

import ctypes
import json
import os
import pathlib
import re
import resource
import signal
import unittest

import common
from common import BrokerCase, Case, SOURCE, ctl

MIB = 1 << 20


def features():
	"""Name to whether it is there."""
	result = ctl("--json", "features")
	return {line["feature"]: line["supported"] for line in map(json.loads, result.stdout.splitlines())}


class F35_Features(Case):
	def test_all(self):
		text = self.check(ctl("features"))
		lines = [line.split() for line in text.splitlines()]
		self.assertEqual(lines[0], ["FEATURE", "HERE", "WHAT"])
		self.assertEqual({line[1] for line in lines[1:]} - {"yes", "no"}, set())
		self.assertEqual({line[0]: line[1] == "yes" for line in lines[1:]}, features())
		header = (SOURCE / "include/shmbroker/memory.h").read_text()
		names = re.findall(r'^\tX\([A-Z_]+, \d+, "([a-z-]+)"', header, re.M)
		found = [line[0].removeprefix("advice-") for line in lines[1:]]
		self.assertEqual(found, names)

	def test_some(self):
		all_of_them = features()
		for name in ("memfd", "sync", "no-cache", "advice-willneed"):
			status = 0 if all_of_them[name] else 1
			self.assertRegex(self.check(ctl("features", name), status), f"(?m)^{name} ")
		self.assertEqual((all_of_them["memfd"], all_of_them["no-cache"], all_of_them["advice-remove"]),
				 (True, False, True))
		self.check(ctl("features", "memfd", "no-cache"), 1)
		self.check(ctl("features", "tape"), 2, "there is no feature 'tape'")


class F09_HugePages(BrokerCase):
	def test_try(self):
		"""Never fails for the want of them, and tells what the kernel says, which nobody asked for."""
		info = self.json("create", "--hugepages", "--populate", "n", "4M")
		self.assertIn(info["huge"], ("yes", "no", "unknown"))
		if info["backing"] == "hugetlb":
			self.assertNotEqual(info["huge"], "no")
		self.assertEqual(self.json("create", "--hugepages=try", "m", "4M")["size"], 4 * MIB)
		self.assertNotIn("huge", self.json("create", "o", "1"))

	def test_require(self):
		here = features()
		result = self.broker.ctl("--json", "create", "--hugepages=require", "--populate", "n", "4M")
		if here["hugetlb"] or here["transparent-huge"]:
			self.check(result)
			self.assertNotEqual(json.loads(result.stdout)["huge"], "no")
		else:
			error = json.loads(result.stderr)
			self.assertEqual((result.returncode, error["error"]), (1, "unsupported"))
			self.assertIn("shmbctl features", error["hint"])
			self.assertEqual(self.ok("ls"), "")

	def test_pool(self):
		result = self.broker.ctl("--json", "create", "--backing=hugetlb", "n", "2M")
		if features()["hugetlb"]:
			self.check(result)
			self.assertEqual(json.loads(result.stdout)["backing"], "hugetlb")
			self.assertEqual(self.json("stat", "n")["backing"], "hugetlb")
		else:
			error = json.loads(result.stderr)
			self.assertEqual(result.returncode, 1)
			if error["error"] == "no-memory":
				self.assertEqual(error["what"], "huge pages")
				self.assertIn("HugePages_Free", error["hint"])
			else:  # a kernel without them
				self.assertEqual(error["error"], "unsupported")

	def test_usage(self):
		self.fails(2, "neither try nor require", "create", "--hugepages=perhaps", "n", "1")
		self.fails(2, "--memfd and --backing are the same", "create", "--memfd", "--backing=shm", "n", "1")
		# what follows it is no argument of it
		self.assertEqual(self.json("create", "--hugepages", "require", "1M")["name"], "require")


class F07_Populate(BrokerCase):
	def test_memory_is_there(self):
		"""In /dev/shm the blocks show it."""
		for options, blocks in ((), 0), (("--populate",), MIB), (("--reserve",), MIB):
			self.ok("create", "--backing=shm", *options, "n", "1M")
			(path,) = [path for path in common.objects(self.broker.instance()) if os.stat(path).st_size == MIB]
			self.assertEqual(os.stat(path).st_blocks * 512, blocks, options)
			self.ok("rm", "n")

	def test_memfd(self):
		self.assertEqual(self.json("create", "--memfd", "--populate", "n", "1M")["backing"], "memfd")


class F08_Pin(BrokerCase):
	def locked(self, process):
		text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
		return int(re.search(r"VmLck:\s+(\d+) kB", text).group(1)) * 1024

	def start(self, *arguments, **more):
		process = self.broker.start("create", "--hold", *arguments, **more)
		self.addCleanup(process.stdout.close)
		self.addCleanup(process.stderr.close)
		self.addCleanup(process.wait)
		self.addCleanup(process.kill)
		return process

	def test_held(self):
		process = self.start("--pin", "n", "1M")
		self.assertEqual(process.stdout.readline(), b"holding n\n")
		self.assertEqual(self.locked(process), MIB)
		process.send_signal(signal.SIGTERM)
		self.assertEqual(process.wait(common.LIMIT), 0)

	@unittest.skipUnless(os.getuid() == 0, "the limit is not for root, who is to try it as somebody else")
	def test_limit(self):
		def limit():  # root may pin what it likes
			resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
			prctl = ctypes.CDLL(None).prctl
			prctl(24, 14, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_IPC_LOCK: not had after execve()
		process = self.start("--pin", "n", "1M", preexec_fn=limit)
		self.assertEqual(process.wait(common.LIMIT), 1)
		text = process.stderr.read().decode()
		self.assertIn("RLIMIT_MEMLOCK", text)
		self.assertIn("ulimit -l", text)
		self.assertEqual(self.ok("ls"), "")

	def test_usage(self):
		self.fails(2, "add --hold", "create", "--pin", "n", "1")


class F35_Advise(BrokerCase):
	def test_remove(self):
		self.ok("create", "--backing=shm", "n", "64K")
		self.ok("write", "n", input=b"x" * 65536)
		(path,) = [path for path in common.objects(self.broker.instance()) if os.stat(path).st_size == 65536]
		self.assertEqual(self.json("advise", "-s", "4K", "-n", "8K", "n", "remove"),
				 {"name": "n", "advice": "remove", "offset": 4096, "length": 8192})
		self.assertEqual(self.ok("read", "n"), "x" * 4096 + "\0" * 8192 + "x" * (65536 - 12288))
		self.ok("advise", "n", "remove")
		self.assertEqual(os.stat(path).st_blocks, 0)
		self.ok("write", "n", input=b"x" * 65536)
		self.ok("advise", "-n", "0", "n", "remove")  # nothing, and not everything
		self.assertEqual(os.stat(path).st_blocks * 512, 65536)

	def test_soon(self):
		self.ok("create", "n", "64K")
		for advice in ("willneed", "prefetch"):
			self.assertEqual(self.ok("advise", "n", advice), "")
		self.assertEqual(self.json_error(1, "advise", "-s", "60K", "-n", "5K", "n", "willneed")["error"], "out-of-bounds")

	def test_collapse(self):
		self.ok("create", "--memfd", "--populate", "n", "4M")
		result = self.broker.ctl("--json", "advise", "n", "collapse")
		if features()["advice-collapse"]:
			self.assertIn(result.returncode, (0, 1), "the system may have no huge page just now")
		else:
			self.assertEqual((result.returncode, json.loads(result.stderr)["error"]), (1, "unsupported"))

	def test_what_would_be_over(self):
		self.ok("create", "n", "4K")
		for advice in ("normal", "random", "sequential", "dontneed", "cold", "pageout", "hugepage", "dontfork"):
			self.fails(2, "over with this command", "advise", "n", advice)
		self.fails(2, "none of willneed", "advise", "n", "burn")
		self.fails(3, "nothing of that name", "advise", "none", "willneed")

	def test_no_huge_page_of_nothing(self):
		self.ok("create", "n", "4K")
		self.fails(1, r"advise: n: .*\n.*not for this kind of memory", "advise", "n", "collapse")


if __name__ == "__main__":
	common.main()
