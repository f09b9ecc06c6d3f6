#!/usr/bin/python3
"""cp, export, import: regions to regions, to files and back."""

import fcntl
import os
import pathlib
import pty
import random
import resource
import signal
import struct
import subprocess
import tempfile
import termios
import tty

import common
from common import BrokerCase, SHMBCTL

DATA = random.Random(2).randbytes(2 * 1024 * 1024 + 17)


class CopyCase(BrokerCase):
	def setUp(self):
		super().setUp()
		directory = tempfile.TemporaryDirectory(prefix="shmb-cli-copies.")
		self.addCleanup(directory.cleanup)
		self.directory = pathlib.Path(directory.name)
		self.path = self.directory / "data"

	def fill(self, name, data=DATA):
		self.ok("create", name, len(data))
		self.ok("write", name, input=data)

	def bytes(self, *arguments):
		result = self.broker.ctl("read", *arguments)
		self.assertEqual((result.returncode, result.stderr), (0, b""))
		return result.stdout


class F28_Copy(CopyCase):
	def test_makes_it(self):
		self.ok("create", "--capacity=64K", "--mode=0777", "a", "5")
		self.ok("write", "a", input=b"hello")
		self.assertEqual(self.json("cp", "a", "b"), {"source": "a", "name": "b", "length": 5, "created": True})
		info = self.json("stat", "b")
		self.assertEqual((info["size"], info["capacity"], info["mode"], info["lifetime"]),
				 (5, 65536, "0700", "persistent"))
		self.assertEqual(self.bytes("b"), b"hello")

	def test_large(self):
		self.fill("a")
		self.assertEqual(self.ok("cp", "--mode=0640", "a", "b"), "")
		self.assertEqual(self.bytes("b"), DATA)
		self.assertEqual(self.json("stat", "b")["mode"], "0640")
		self.assertEqual(self.bytes("a"), DATA)

	def test_into_one_that_is_there(self):
		self.fill("a", b"hello")
		self.fill("b", b"xxxxxxxx")
		self.fill("c", b"yy")
		answer = self.json("cp", "--publish", "a", "b")
		self.assertEqual(answer, {"source": "a", "name": "b", "length": 5, "created": False, "sequence": 1})
		self.assertEqual(self.json("wait", "--seen=0", "b"), {"name": "b", "sequence": 1, "offset": 0, "length": 5})
		self.assertEqual(self.bytes("b"), b"helloxxx")
		error = self.json_error(1, "cp", "a", "c")
		self.assertEqual(error["error"], "too-large")
		self.assertIn("the 5 bytes of a do not fit into the 2 bytes", error["message"])
		self.assertEqual(self.bytes("c"), b"yy")

	def test_exclusive(self):
		self.fill("a", b"hello")
		self.ok("cp", "-x", "a", "b")
		self.assertEqual(self.json_error(1, "cp", "-x", "a", "b")["error"], "exists")
		self.assertEqual(self.bytes("b"), b"hello")

	def test_refused(self):
		self.fill("a", b"hello")
		self.fails(2, "are the same region", "cp", "a", "a")
		self.fails(3, "none: nothing of that name", "cp", "none", "b")
		self.assertEqual(self.ok("ls", "-q"), "a\n")
		self.ok("lock", "--create", "l")
		self.assertEqual(self.json_error(1, "cp", "a", "l")["error"], "wrong-kind")
		self.fails(2, "is no mode", "cp", "--mode=9", "a", "b")


class F28_Export(CopyCase):
	def test_to_a_file(self):
		self.fill("n")
		self.assertEqual(self.json("export", "n", self.path),
				 {"name": "n", "file": str(self.path), "offset": 0, "length": len(DATA)})
		self.assertEqual(self.path.read_bytes(), DATA)

	def test_range(self):
		self.fill("n")
		self.path.write_bytes(DATA)  # longer than what is to be in it
		self.assertEqual(self.ok("export", "-s", "1M", "-n", "100", "n", self.path), "")
		self.assertEqual(self.path.read_bytes(), DATA[1 << 20:][:100])
		for options in (["-s", len(DATA)], ["-n", "0"]):
			self.ok("export", *options, "n", self.path)
			self.assertEqual(self.path.read_bytes(), b"", options)

	def test_to_a_stream(self):
		self.fill("n")
		result = self.broker.ctl("export", "n", "-")
		self.assertEqual((result.returncode, result.stderr), (0, b""))
		self.assertEqual(result.stdout, DATA)
		self.fails(2, "--json read", "--json", "export", "n", "-")

	def test_exclusive(self):
		self.fill("n", b"new")
		self.path.write_bytes(b"old")
		error = self.json_error(1, "export", "-x", "n", self.path)
		self.assertEqual(error["error"], "exists")
		self.assertEqual(self.path.read_bytes(), b"old")

	def test_failures_leave_no_file(self):
		self.fill("n", b"hello")
		self.assertEqual(self.json_error(1, "export", "-s", "6", "n", self.path)["error"], "out-of-bounds")
		self.fails(3, "none: nothing of that name", "export", "none", self.path)
		self.assertFalse(self.path.exists())

		def limit():
			signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
			resource.setrlimit(resource.RLIMIT_FSIZE, (3, 3))
		self.fails(1, f"{self.path}: File too large", "export", "n", self.path, preexec_fn=limit)
		self.assertFalse(self.path.exists())
		self.path.touch()
		self.fails(1, f"{self.path}: File too large", "export", "n", self.path, preexec_fn=limit)
		self.assertTrue(self.path.exists(), "it was there before")
		self.fails(1, f"{self.directory}: Is a directory", "export", "n", self.directory)
		self.fails(1, "No such file", "export", "n", self.directory / "a/b")
		self.fails(1, "No space left on device", "export", "n", "/dev/full")
		with open("/dev/full", "wb") as full:
			self.check(self.broker.ctl("export", "n", "-", stdout=full), 1, "standard output: No space left on device")

	def test_reader_that_goes_away(self):
		self.fill("n")
		process = self.broker.start("export", "n", "-")
		process.stdout.read(10)
		process.stdout.close()
		self.assertEqual(process.wait(common.LIMIT), -13)  # SIGPIPE, as for cat
		self.assertEqual(process.stderr.read(), b"")
		process.stderr.close()


class F28_Import(CopyCase):
	def test_makes_it(self):
		self.path.write_bytes(DATA)
		answer = self.json("import", "--mode=0640", self.path, "n")
		self.assertEqual(answer, {"file": str(self.path), "name": "n", "offset": 0, "length": len(DATA), "created": True})
		info = self.json("stat", "n")
		self.assertEqual((info["size"], info["mode"], info["lifetime"]), (len(DATA), "0640", "persistent"))
		self.assertEqual(self.bytes("n"), DATA)

	def test_into_one_that_is_there(self):
		self.fill("n", b"xxxxxxxx")
		self.path.write_bytes(b"hello")
		answer = self.json("import", "--publish", "-s", "2", self.path, "n")
		self.assertEqual((answer["offset"], answer["length"], answer["created"], answer["sequence"]), (2, 5, False, 1))
		self.assertEqual(self.bytes("n"), b"xxhellox")
		error = self.json_error(1, "import", "-s", "4", self.path, "n")
		self.assertEqual(error["error"], "too-large")
		self.assertIn("nothing was written", error["message"])
		self.assertEqual(self.bytes("n"), b"xxhellox")
		self.assertEqual(self.json_error(1, "import", "-x", self.path, "n")["error"], "exists")

	def test_range(self):
		self.path.write_bytes(b"hello, world")
		self.ok("import", "-s", "3", "-n", "5", self.path, "n")
		self.assertEqual(self.bytes("n"), b"\0\0\0hello")
		self.ok("import", "-n", "0", self.path, "n")
		self.assertEqual(self.bytes("n"), b"\0\0\0hello")
		self.ok("import", "--size=20", self.path, "m")
		self.assertEqual(self.bytes("m"), b"hello, world" + bytes(8))

	def test_from_a_pipe(self):
		self.fails(3, "how large it is to be is not known: --size", "import", "-", "n", input=b"hello")
		self.ok("import", "-S", "5", "-", "n", input=b"hello")
		self.assertEqual(self.bytes("n"), b"hello")
		error = self.json_error(1, "import", "-", "n", input=b"longer than that")
		self.assertEqual(error["error"], "too-large")
		self.assertNotIn("nothing was written", error["message"])
		self.fails(1, "the input ended after 3 of 4 bytes", "import", "-n", "4", "-", "n", input=b"abc")

	def test_from_what_is_left_of_a_file(self):
		with tempfile.TemporaryFile() as source:
			source.write(b"before" + DATA)
			source.flush()
			os.lseek(source.fileno(), 6, os.SEEK_SET)
			self.ok("import", "-", "n", stdin=source)
		self.assertEqual(self.bytes("n"), DATA)

	def test_failures_leave_no_region(self):
		self.path.write_bytes(b"hello")
		self.fails(1, "the input ended after 5 of 6 bytes", "import", "-n", "6", self.path, "n")
		self.fails(1, "does not fit", "import", "--size=4", self.path, "n")
		self.fails(1, "out of bounds", "import", "--size=4", "-s", "5", self.path, "n")
		self.fails(1, "No such file", "import", self.directory / "none", "n")
		self.fails(1, "Is a directory", "import", "--size=4", self.directory, "n")
		self.path.write_bytes(b"")
		self.fails(3, "is not known", "import", self.path, "n")
		self.assertEqual(self.ok("ls"), "")

	def test_there_and_back(self):
		self.fill("n")
		self.ok("export", "n", self.path)
		self.ok("import", self.path, "m")
		self.assertEqual(self.bytes("m"), DATA)


class Streams(CopyCase):
	"""What read and write can, export and import can, too."""

	def test_nonblocking(self):
		self.fill("n")
		self.ok("create", "m", len(DATA))
		reading, writing = os.pipe()
		for fd in (reading, writing):
			os.set_blocking(fd, False)
		reader = subprocess.Popen([SHMBCTL, "export", "n", "-"], env=self.broker.env, stdout=writing)
		writer = subprocess.Popen([SHMBCTL, "import", "-", "m"], env=self.broker.env, stdin=reading)
		os.close(reading)
		os.close(writing)
		self.assertEqual((reader.wait(common.LIMIT), writer.wait(common.LIMIT)), (0, 0))
		self.assertEqual(self.bytes("m"), DATA)

	def watched(self, command, columns=None):
		"""Runs a shell command with stderr on a terminal. Return: what it saw."""
		terminal, slave = pty.openpty()
		tty.setraw(slave)
		if columns is not None:
			fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
		process = subprocess.Popen(["/bin/sh", "-c", command, SHMBCTL, self.path], env=self.broker.env, stderr=slave,
					   stdout=subprocess.DEVNULL)
		os.close(slave)
		seen = b""
		while True:
			try:
				piece = os.read(terminal, 65536)
			except OSError:  # how a terminal says end-of-file
				break
			if not piece:
				break
			seen += piece
		os.close(terminal)
		self.assertEqual(process.wait(common.LIMIT), 0)
		return seen

	SLOW = "for i in 1 2 3 4 5 6; do echo x; sleep 0.15; done"  # what makes a transfer long; nothing waits for it

	def test_bar(self):
		seen = self.watched(f'{self.SLOW} | "$0" import -n 12 --size=12 - n', columns=120)
		self.assertRegex(seen, rb"\d+ of 12  \d+ %  \d+/s  \d+ s left  \[=*>? *\]")
		self.assertEqual(len(seen[seen.index(b"[=") + 1:].split(b"]")[0]), 40)
		self.assertTrue(seen.endswith(b"\r\x1b[K"), "the line stays behind")

	def test_narrow(self):
		seen = self.watched(f'{self.SLOW} | "$0" import -n 12 --size=12 - n', columns=60)
		self.assertIn(b"of 12", seen)
		for line in seen.split(b"\r\x1b[K"):
			self.assertLess(len(line), 60)

	def test_unwanted(self):
		self.assertEqual(self.watched(f'{self.SLOW} | "$0" import --no-progress -n 12 --size=12 - n'), b"")

	def test_export(self):
		"""Into a pipe that somebody empties slowly."""
		self.fill("n")
		seen = self.watched('"$0" export n - | { for i in 1 2 3 4 5 6 7 8; do head -c 100000 >/dev/null; sleep 0.1; done; cat; }')
		self.assertRegex(seen, rb"of 2\.0M  \d+ %")


if __name__ == "__main__":
	common.main()
