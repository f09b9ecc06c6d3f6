#!/usr/bin/python3
"""wait and watch: what is published, resized and removed."""

import json
import signal

import common
from common import CoordinationCase, WatchingCase


class EventCase(WatchingCase):
	def setUp(self):
		super().setUp()
		self.ok("create", "--capacity=64K", "n", "4K")


class Wait(EventCase):
	def test_already_published(self):
		self.ok("publish", "-s", "1K", "-n", "16", "n")
		self.assertEqual(self.ok("wait", "--seen=0", "n"), "sequence 1  offset 1024  length 16\n")
		self.assertEqual(self.json("wait", "--seen=0", "n"), {"name": "n", "sequence": 1, "offset": 1024, "length": 16})

	def test_several_are_one(self):
		self.ok("publish", "-s", "100", "-n", "10", "n")
		self.ok("publish", "-s", "300", "-n", "50", "n")
		self.assertEqual(self.json("wait", "--seen=0", "n"), {"name": "n", "sequence": 2, "offset": 100, "length": 250})
		self.ok("publish", "n")
		self.assertEqual(self.json("wait", "--seen=0", "n"), {"name": "n", "sequence": 3, "offset": 0, "length": 4096})

	def test_woken(self):
		"""With --seen no publish can be missed, whenever the waiter gets to sleep."""
		process = self.start("--json", "wait", "--seen=0", "n")
		self.ok("publish", "n")
		self.assertEqual(self.line(process)["sequence"], 1)
		self.end(process)

	def test_timeout(self):
		self.fails(4, "wait: n: nobody published in time", "wait", "--timeout=0.05", "n")
		self.assertEqual(self.json_error(4, "wait", "-t", "0", "n")["error"], "timed-out")
		self.ok("publish", "n")
		self.fails(4, "nobody published", "wait", "-t", "0", "n")  # that one is old news
		self.ok("wait", "-t", "0", "--seen=0", "n")

	def test_removed(self):
		process = self.start("wait", "n")
		self.until_attached("n")
		self.ok("rm", "n")
		self.end(process, 3, b"wait: n: the region was removed")

	def test_broker_goes(self):
		process = self.start("wait", "n")
		self.until_attached("n")
		self.assertEqual(self.broker.stop(), 0)
		self.end(process, 5, b"gone")

	def until_attached(self, name):
		"""A region's attachment can be seen from outside: ask until it is there."""
		while self.json("stat", name)["attachments"] == 0:
			pass


class Watch(EventCase):
	def test_each_type(self):
		process = self.watch()
		self.ok("publish", "-s", "8", "-n", "4", "n")
		self.assertEqual(self.line(process), {"name": "n", "types": ["published"], "sequence": 1, "size": 4096,
						      "offset": 8, "length": 4})
		self.ok("resize", "n", "8K")
		self.assertEqual(self.line(process), {"name": "n", "types": ["resized"], "sequence": 1, "size": 8192})
		self.ok("rm", "n")
		self.assertEqual(self.line(process)["types"], ["removed"])
		self.end(process)

	def test_for_people(self):
		process = self.start("watch", "-c", "1", "n")
		self.assertRegex(process.stdout.readline().decode(), r"^[0-9:]{8}  n  watching  sequence 0  size 4096\n$")
		self.ok("publish", "-n", "4", "n")
		self.assertRegex(process.stdout.readline().decode(),
				 r"^[0-9:]{8}  n  published  sequence 1  size 4096  offset 0  length 4\n$")
		self.end(process)

	def test_types(self):
		process = self.watch("--types=resized,removed")
		self.ok("publish", "n")
		self.ok("resize", "n", "1K")
		self.assertEqual(self.line(process)["types"], ["resized"])
		self.ok("rm", "n")
		self.assertEqual(self.line(process)["types"], ["removed"])
		self.end(process)
		self.fails(2, "'born' is none of", "watch", "--types=resized,born", "n")

	def test_removal_ends_it_even_unseen(self):
		process = self.watch("--types=published")
		self.ok("rm", "n")
		self.end(process)

	def test_count(self):
		process = self.watch("--count=2")
		self.ok("publish", "n")
		self.assertEqual(self.line(process)["sequence"], 1)
		self.ok("publish", "n")
		self.assertEqual(self.line(process)["sequence"], 2)
		self.end(process)

	def test_seen(self):
		self.ok("publish", "n")
		process = self.watch("--seen=0", "-c", "1")
		self.assertEqual(self.line(process)["sequence"], 1)
		self.end(process)

	def test_several_regions(self):
		self.ok("create", "m", "1K")
		process = self.watch(regions=("m", "n"))
		self.ok("publish", "n")
		self.assertEqual(self.line(process)["name"], "n")
		self.ok("rm", "n")
		self.assertEqual((self.line(process)["name"]), "n")
		self.ok("publish", "m")
		self.assertEqual((self.line(process)["name"]), "m")
		self.ok("rm", "m")
		self.line(process)
		self.end(process)
		self.fails(3, "none: nothing of that name", "watch", "none")

	def test_timeout(self):
		self.fails(4, "the time is over", "watch", "--timeout=0.05", "n")

	def test_broker_goes(self):
		process = self.watch()
		self.assertEqual(self.broker.stop(), 0)
		self.end(process, 5, b'"error":"disconnected"')

	def test_reader_goes(self):
		process = self.watch()
		process.stdout.close()
		self.ok("publish", "n")
		self.assertEqual(process.wait(common.LIMIT), -signal.SIGPIPE)


class F38_Watch(EventCase, CoordinationCase):
	"""What is not published: who may use it, and who died."""

	def test_metadata(self):
		process = self.watch()
		self.ok("chmod", "0640", "n")
		self.assertEqual(self.line(process), {"name": "n", "types": ["metadata"], "sequence": 0, "size": 4096})
		self.ok("rm", "n")
		self.assertEqual(self.line(process)["types"], ["removed"])
		self.end(process)

	def test_for_people(self):
		process = self.start("watch", "-c", "1", "n")
		process.stdout.readline()
		self.ok("chmod", "0640", "n")
		self.assertRegex(process.stdout.readline().decode(), r"^[0-9:]{8}  n  metadata  sequence 0  size 4096\n$")
		self.end(process)

	def test_owner_died(self):
		process = self.watch()
		holder = self.hold("lock", "n")
		self.finish(holder)  # in order: nothing to tell
		self.kill(self.hold("lock", "n"))
		self.assertEqual(self.line(process)["types"], ["owner-died"])
		self.ok("rm", "n")
		self.assertEqual(self.line(process)["types"], ["removed"])
		self.end(process)

	def test_no_file(self):
		self.fails(1, "watch: n: it is made of no file", "watch", "--types=file", "n")


if __name__ == "__main__":
	common.main()
