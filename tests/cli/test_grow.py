#!/usr/bin/python3
"""resize beyond the capacity, which takes the lock, and resize of files."""

import pathlib
import tempfile

import common
from common import CoordinationCase

MIB = 1 << 20


class F33_Grow(CoordinationCase):
	def setUp(self):
		super().setUp()
		self.ok("create", "n", "4K")
		self.ok("write", "n", input=b"kept")

	def test_grows(self):
		answer = self.json("resize", "n", "1M")
		self.assertEqual((answer["name"], answer["size"]), ("n", MIB))
		self.assertGreaterEqual(answer["capacity"], MIB)
		info = self.json("stat", "n")
		self.assertEqual((info["size"], info["capacity"]), (MIB, answer["capacity"]))
		self.assertEqual(self.ok("read", "-n", "5", "n"), "kept\0")
		self.ok("write", "-s", "1048572", "n", input=b"last")
		self.assertEqual(self.json_lines("locks", "n")[0]["state"], "free")

	def test_waits_for_the_lock(self):
		holder = self.hold("lock", "n")
		self.fails(4, r"resize: n: .* takes the region's lock, which .*pid .* has", "resize", "--timeout=0.05", "n", "1M")
		self.ok("resize", "--timeout=0.05", "n", "1K")  # within the capacity nobody needs it
		waiter = self.spawn("resize", "n", "1M")
		self.until("waiting_exclusive", 1, "locks", "n")
		self.finish(holder)
		self.assertEqual(waiter.wait(common.LIMIT), 0)
		self.assertEqual(self.json("stat", "n")["size"], MIB)

	def test_owner_died(self):
		self.kill(self.hold("lock", "n"))
		self.until("owner_died", True, "locks", "n")
		self.fails(0, "resize: n: a holder of the lock died", "resize", "n", "1M")
		self.assertEqual(self.json("stat", "n")["size"], MIB)
		self.until("owner_died", True, "locks", "n")  # it stays so
		self.ok("resize", "n", "4K")

	def test_too_large(self):
		error = self.json_error(1, "resize", "n", "1000T")
		self.assertEqual(error["error"], "too-large")
		self.assertIn("max-region", error["hint"])
		self.assertEqual(self.json_lines("locks", "n")[0]["state"], "free")
		self.assertEqual(self.json("stat", "n")["size"], 4096)


class F33_File(CoordinationCase):
	def test_file(self):
		"""It needs no lock, and the file is as long as the region."""
		with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
			path = pathlib.Path(file.name)
			path.write_bytes(b"abcd")
			self.ok("create", "--file", path, "n")
			holder = self.hold("lock", "n")
			self.assertEqual(self.json("resize", "n", "8"), {"name": "n", "size": 8, "capacity": 8})
			self.assertEqual(path.read_bytes(), b"abcd" + bytes(4))
			self.ok("resize", "n", "2")
			self.assertEqual(path.read_bytes(), b"ab")
			self.finish(holder)


if __name__ == "__main__":
	common.main()
