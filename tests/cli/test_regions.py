#!/usr/bin/python3
"""create, ls, stat, resize, rm, chmod, chown: which regions there are, and whose."""

import os
import signal
import time
import unittest

import common
from common import BrokerCase


class Create(BrokerCase):
	def test_defaults(self):
		before = int(time.time())
		self.assertEqual(self.ok("create", "a/b", "4096"), "")
		info = self.json("stat", "a/b")
		self.assertTrue(before - 1 <= info.pop("created") <= time.time() + 1)
		self.assertGreater(info.pop("id"), 0)
		self.assertEqual(info, {"name": "a/b", "size": 4096, "capacity": 4096, "mode": "0700", "uid": os.getuid(),
					"gid": os.getgid(), "backing": "shm", "lifetime": "persistent",
					"attachments": 0, "sequence": 0, "removed": False})

	def test_sizes(self):
		for text, size in (("1", 1), ("0x10", 16), ("3k", 3072), ("2M", 2 << 20), ("1Ki", 1024), ("5KiB", 5120),
				   ("0010", 10)):
			self.assertEqual(self.json("create", "n", text)["size"], size, text)
			self.ok("rm", "n")
		for text in ("", "x", "-1", "1.5K", "4KB", "1Q", "K", "0x", " 1", "99999999999999999999", "20000000000G"):
			self.fails(2, f"'{text}' is no size", "create", "--", "n", text)

	def test_options(self):
		info = self.json("create", "--capacity=1M", "--mode=0641", "--backing=memfd", "--reserve", "n", "64K")
		self.assertEqual((info["size"], info["capacity"], info["mode"], info["backing"], info["opened"]),
				 (65536, 1 << 20, "0641", "memfd", False))

	def test_slots(self):
		self.ok("create", "--slots=2", "n", "1")
		self.ok("lock", "n", "--", "true")
		self.assertEqual(self.json("locks", "n")["slots"], 2)
		for text in ("0", "1025"):
			self.fails(2, "--slots is 1 to 1024", "create", f"--slots={text}", "m", "1")

	def test_mode_in_letters(self):
		for text, mode in (("u=rw,g=r,o=", "0640"), ("g+l", "0710"), ("a=r", "0444"), ("u-wl", "0400"),
				   ("=rwl", "0777"), ("go=r", "0744"), ("7", "0007")):
			self.assertEqual(self.json("create", f"--mode={text}", "n", "1")["mode"], mode, text)
			self.ok("rm", "n")
		for text in ("1000", "8", "u+x", "u=r,", "=rx", "z=r"):
			self.fails(2, "is no mode", "create", f"--mode={text}", "n", "1")

	def test_exists(self):
		self.ok("create", "n", "1K")
		error = self.json_error(1, "create", "n", "2K")
		self.assertEqual((error["error"], error["name"]), ("exists", "n"))
		self.assertIn("--or-open", error["hint"])
		self.assertEqual(self.json("create", "--or-open", "n", "2K")["opened"], True)
		self.assertEqual(self.json("stat", "n")["size"], 1024)
		self.assertEqual(self.json("create", "--or-open", "new", "2K")["opened"], False)

	def test_refused(self):
		error = self.json_error(1, "create", "a//b", "1")
		self.assertEqual((error["error"], error["what"]), ("invalid-argument", "name"))
		self.assertIn("a name is such as video/cam0", error["hint"])
		self.assertEqual(self.json_error(1, "create", "n", "0")["error"], "invalid-argument")
		self.assertEqual(self.json_error(1, "create", "--capacity=1", "n", "2")["error"], "invalid-argument")
		self.fails(2, "none of shm, memfd, hugetlb", "create", "--backing=tape", "n", "1")
		self.fails(2, "none of persistent", "create", "--lifetime=long", "n", "1")
		self.fails(2, "exclude each other", "create", "-x", "-o", "n", "1")
		self.fails(2, "add --hold", "create", "--lifetime=attached", "n", "1")
		self.assertEqual(self.ok("ls"), "")


class Hold(BrokerCase):
	def hold(self, *arguments):
		process = self.broker.start("create", "--hold", *arguments)
		self.addCleanup(process.stdout.close)
		self.addCleanup(process.stderr.close)
		self.assertEqual(process.stdout.readline(), b"holding n\n")
		return process

	def test_until_signalled(self):
		for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
			process = self.hold("n", "4K")
			info = self.json("stat", "n")
			self.assertEqual((info["lifetime"], info["attachments"]), ("attached", 1))
			process.send_signal(number)
			self.assertEqual(process.wait(common.LIMIT), 0)
			self.fails(3, "nothing of that name", "stat", "n")

	def test_killed(self):
		process = self.hold("--lifetime=session", "n", "4K")
		self.assertEqual(self.json("stat", "n")["lifetime"], "session")
		watcher = self.broker.start("--json", "watch", "n")
		self.addCleanup(watcher.stderr.close)
		watcher.stdout.readline()
		process.kill()
		process.wait(common.LIMIT)
		self.assertIn(b"removed", watcher.stdout.read())  # no race: it ends when the region has gone
		watcher.stdout.close()
		self.assertEqual(watcher.wait(common.LIMIT), 0)
		self.fails(3, "nothing of that name", "stat", "n")

	def test_removed(self):
		"""What is held without a name can be had by nobody: that is no end in order."""
		for lifetime in ("attached", "session", "persistent"):
			process = self.hold(f"--lifetime={lifetime}", "n", "4K")
			self.ok("rm", "n")
			self.assertEqual(process.wait(common.LIMIT), 3)
			self.assertIn(b"create: n: the region was removed", process.stderr.read())

	def test_removed_and_made_again(self):
		self.ok("create", "n", "4K")
		process = self.hold("--or-open", "n", "4K")
		self.ok("rm", "n")
		self.ok("create", "n", "4K")
		self.assertEqual(process.wait(common.LIMIT), 3)

	def test_broker_goes(self):
		process = self.hold("n", "4K")
		instance = self.broker.instance()
		self.assertEqual(self.broker.stop(), 0)
		self.assertEqual(process.wait(common.LIMIT), 5)
		self.assertIn(b"connection to the broker is gone", process.stderr.read())
		self.assertEqual(common.objects(instance), [])


class List(BrokerCase):
	def setUp(self):
		super().setUp()
		self.names = [f"many/{i:03}" for i in range(150)]  # more than two pages
		for name in ("b", "a", "c/d"):
			self.ok("create", "--mode=0640", name, "1536")

	def test_order_and_prefix(self):
		self.assertEqual(self.ok("ls", "-q"), "a\nb\nc/d\n")
		self.assertEqual(self.ok("ls", "-q", "c/"), "c/d\n")
		self.assertEqual(self.ok("ls", "-q", "none"), "")
		self.assertEqual(self.ok("ls", "none"), "")
		self.assertEqual(self.json_lines("ls", "-q", "a"), [{"name": "a"}])
		self.assertEqual([info["name"] for info in self.json_lines("ls")], ["a", "b", "c/d"])

	def test_pages(self):
		for name in self.names:
			self.ok("create", name, "1")
		self.assertEqual(self.ok("ls", "-q", "many/").split(), self.names)

	def test_table(self):
		self.ok("create", "--capacity=1G", "sparse", "1023")
		lines = self.ok("ls").splitlines()
		self.assertEqual(lines[0].split(), ["MODE", "OWNER", "SIZE", "ATTACHED", "NAME"])
		self.assertRegex(lines[1], r"^0640 rw-r-----  \S+ +1\.5K +0  a$")
		self.assertRegex(lines[4], r"^0700 rwl------  \S+ +1023 +0  sparse$")
		self.assertEqual({line.rindex(line.split()[-1]) for line in lines}, {lines[0].index("NAME")})
		lines = self.ok("ls", "-l", "sparse").splitlines()
		self.assertEqual(lines[0].split(), ["MODE", "OWNER", "GROUP", "SIZE", "CAPACITY", "ATTACHED", "PUBLISHED",
						    "BACKING", "LIFETIME", "CREATED", "NAME"])
		self.assertEqual(lines[1].split()[5:6] + lines[1].split()[8:10], ["1.0G", "shm", "persistent"])
		self.assertIn(str(1 << 30), self.ok("ls", "-lb", "sparse"))

	def test_stat_for_people(self):
		text = self.ok("stat", "a", "b")
		self.assertEqual(text.count("Name: "), 2)
		self.assertIn("    Size: 1536 (1.5K)\n", text)
		self.assertIn("    Mode: 0640 rw-r-----\n", text)

	def test_stat_of_several(self):
		result = self.broker.ctl("--json", "stat", "a", "none", "b")
		self.assertEqual((result.returncode, result.stdout.count(b"\n"), result.stderr.count(b"\n")), (3, 2, 1))


class Change(BrokerCase):
	def test_resize(self):
		self.ok("create", "--capacity=64K", "n", "4K")
		self.ok("resize", "n", "16K")
		self.assertEqual(self.json("stat", "n")["size"], 16384)
		self.assertEqual(self.json("resize", "n", "1K"), {"name": "n", "size": 1024})
		self.ok("resize", "n", "64K")
		self.fails(1, "invalid", "resize", "n", "0")
		self.fails(3, "nothing of that name", "resize", "none", "1")

	def test_resize_forgets(self):
		self.ok("create", "n", "8K")
		self.ok("write", "n", input=b"x" * 8192)
		self.ok("resize", "n", "5000")
		self.ok("resize", "n", "8K")
		self.assertEqual(self.ok("read", "n"), "x" * 5000 + "\0" * 3192)

	def test_rm(self):
		for name in "abc":
			self.ok("create", name, "1")
		self.fails(3, "rm: none: nothing of that name", "rm", "a", "none", "b")
		self.assertEqual(self.ok("ls", "-q"), "c\n")
		self.assertEqual(self.json_lines("rm", "-f", "none", "c"),
				 [{"name": "none", "removed": False}, {"name": "c", "removed": True}])

	def test_chmod(self):
		for name in "ab":
			self.ok("create", "--mode=0700", name, "1")
		self.ok("chmod", "0640", "a")
		self.assertEqual(self.json("stat", "a")["mode"], "0640")
		self.assertEqual(self.json_lines("chmod", "o+r", "a", "b"),
				 [{"name": "a", "mode": "0644"}, {"name": "b", "mode": "0704"}])
		self.assertEqual(self.json("stat", "b")["mode"], "0704")
		self.fails(2, "'9' is no mode", "chmod", "9", "a")
		self.fails(3, "nothing of that name", "chmod", "0600", "none")

	@unittest.skipUnless(os.getuid() == 0, "only root may give regions away")
	def test_chown(self):
		self.ok("create", "n", "1")
		self.assertEqual(self.json("chown", "1234:4321", "n"), {"name": "n", "uid": 1234, "gid": 4321})
		info = self.json("stat", "n")
		self.assertEqual((info["uid"], info["gid"]), (1234, 4321))
		self.ok("chown", ":0", "n")
		self.ok("chown", "nobody", "n")
		info = self.json("stat", "n")
		self.assertEqual((info["uid"], info["gid"]), (65534, 0))
		self.ok("chown", "root:", "n")
		self.assertEqual(self.json("stat", "n")["uid"], 0)

	def test_chown_usage(self):
		self.fails(2, "there is no user 'no-such-user'", "chown", "no-such-user", "n")
		self.fails(2, "there is no group 'no-such-group'", "chown", ":no-such-group", "n")
		self.fails(2, "is no owner", "chown", ":", "n")


class Figures(BrokerCase):
	def test_stats(self):
		self.ok("create", "n", "64K")
		figures = self.json("stats")
		self.assertEqual((figures["regions"], figures["connections"]), (1, 1))
		self.assertGreaterEqual(figures["bytes"], 65536)
		text = dict(line.split() for line in self.ok("stats").splitlines())
		self.assertEqual(text["FIGURE"], "VALUE")
		self.assertEqual(set(text) - {"FIGURE"}, set(figures))

	def test_ping(self):
		self.assertRegex(self.ok("ping"), r"^answer in [0-9.]+ us\n$")
		self.assertGreater(self.json("ping")["round_trip_us"], 0)
		*answers, total = self.json_lines("ping", "-c", "5")
		self.assertEqual((len(answers), total["count"]), (5, 5))
		self.assertTrue(total["min_us"] <= total["median_us"] <= total["max_us"])
		self.fails(2, "--count", "ping", "-c", "0")


if __name__ == "__main__":
	common.main()
