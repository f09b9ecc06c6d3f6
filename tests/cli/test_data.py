#!/usr/bin/python3
"""read, write, dump, publish: bytes between regions and the standard streams."""

import base64
import hashlib
import os
import pty
import random
import subprocess
import tempfile
import tty

import common
from common import BrokerCase, SHMBCTL

DATA = random.Random(1).randbytes(3 * 1024 * 1024 + 17)  # more than two pieces, and not aligned to anything


class DataCase(BrokerCase):
	size = len(DATA)

	def setUp(self):
		super().setUp()
		self.ok("create", "n", self.size)

	def bytes(self, *arguments):
		result = self.broker.ctl("read", *arguments)
		self.assertEqual((result.returncode, result.stderr), (0, b""))
		return result.stdout


class Pipes(DataCase):
	def test_there_and_back(self):
		self.ok("write", "n", input=DATA)
		self.assertEqual(self.bytes("n"), DATA)

	def test_files(self):
		with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
			source.write(b"before" + DATA)
			source.flush()
			os.lseek(source.fileno(), 6, os.SEEK_SET)  # what was read before is not ours
			self.ok("write", "n", stdin=source)
			self.broker.ctl("read", "n", stdout=target, check=True)
			target.seek(0)
			self.assertEqual(target.read(), DATA)

	def test_ranges(self):
		self.ok("write", "-s", "1M", "n", input=b"abcdef")
		self.assertEqual(self.bytes("-s", "1M", "-n", "6", "n"), b"abcdef")
		self.assertEqual(self.bytes("-s", "0x100001", "-n", "2", "n"), b"bc")
		self.assertEqual(self.bytes("-s", self.size, "n"), b"")
		self.assertEqual(self.bytes("-n", "0", "n"), b"")
		self.assertEqual(self.bytes("-s", self.size - 1, "n"), b"\0")

	def test_less_input_leaves_the_rest(self):
		self.ok("write", "n", input=b"xxxxxxxx")
		self.ok("write", "n", input=b"abc")
		self.assertEqual(self.bytes("-n", "8", "n"), b"abcxxxxx")
		self.ok("write", "n", input=b"")

	def test_out_of_bounds(self):
		for command in ("read", "write"):
			error = self.json_error(1, command, "-s", self.size + 1, "n")
			self.assertEqual((error["error"], error["name"], error["offset"], error["size"]),
					 ("out-of-bounds", "n", self.size + 1, self.size))
			self.fails(1, f"out of bounds: 2 bytes at offset {self.size - 1} of a region of {self.size} bytes",
				   command, "-s", self.size - 1, "-n", "2", "n")

	def test_too_much_from_a_pipe(self):
		error = self.json_error(1, "write", "n", input=DATA + b"x")
		self.assertEqual(error["error"], "too-large")
		self.assertIn(f"the {self.size} bytes from offset 0 on are full", error["message"])
		self.assertEqual(self.bytes("n"), DATA)

	def test_too_much_from_a_file(self):
		with tempfile.TemporaryFile() as source:
			source.write(DATA + b"x")
			source.seek(0)
			self.fails(1, f"input of {self.size + 1} bytes does not fit .* nothing was written", "write", "n",
				   stdin=source)
		self.assertEqual(self.bytes("n"), bytes(self.size))

	def test_length_takes_a_part(self):
		"""Two frames from one stream: each takes its own bytes and no more."""
		reading, writing = os.pipe()
		os.write(writing, b"frame1frame2end")
		os.close(writing)
		with open(reading, "rb", buffering=0) as stream:
			for frame in ("a", "b"):
				self.ok("create", frame, "6")
				self.ok("write", "-n", "6", frame, stdin=stream)
			self.fails(1, "the input ended after 3 of 6 bytes", "write", "-n", "6", "n", stdin=stream)
		self.assertEqual((self.bytes("a"), self.bytes("b")), (b"frame1", b"frame2"))

	def test_reader_that_goes_away(self):
		process = self.broker.start("read", "n")
		process.stdout.read(10)
		process.stdout.close()
		self.assertEqual(process.wait(common.LIMIT), -13)  # SIGPIPE, as for cat
		self.assertEqual(process.stderr.read(), b"")
		process.stderr.close()

	def test_no_space_for_output(self):
		with open("/dev/full", "wb") as full:
			result = self.broker.ctl("read", "n", stdout=full)
			self.check(result, 1, "standard output: No space left on device")

	def test_nonblocking_streams(self):
		"""A stream that somebody made non-blocking is waited for, not given up."""
		self.ok("write", "n", input=DATA)
		self.ok("create", "m", self.size)
		reading, writing = os.pipe()
		for fd in (reading, writing):
			os.set_blocking(fd, False)
		reader = subprocess.Popen([SHMBCTL, "read", "n"], env=self.broker.env, stdout=writing)
		writer = subprocess.Popen([SHMBCTL, "write", "m"], env=self.broker.env, stdin=reading)
		os.close(reading)
		os.close(writing)
		self.assertEqual((reader.wait(common.LIMIT), writer.wait(common.LIMIT)), (0, 0))
		self.assertEqual(hashlib.sha256(self.bytes("m")).digest(), hashlib.sha256(DATA).digest())

	def test_json(self):
		self.assertEqual(self.json("write", "-s", "2", "n", input=b"hello"), {"name": "n", "offset": 2, "length": 5})
		for length in range(0, 8):
			answer = self.json("read", "-s", "2", "-n", length, "n")
			self.assertEqual(base64.b64decode(answer["data"], validate=True), b"hello\0\0\0"[:length])
			self.assertEqual((answer["offset"], answer["length"]), (2, length))
		self.ok("write", "n", input=DATA)
		self.assertEqual(base64.b64decode(self.json("read", "n")["data"]), DATA)


class Publish(DataCase):
	size = 4096

	def test_with_write(self):
		answer = self.json("write", "--publish", "-s", "10", "n", input=b"abc")
		self.assertEqual(answer, {"name": "n", "offset": 10, "length": 3, "sequence": 1})
		self.assertEqual(self.json("wait", "--seen=0", "n"), {"name": "n", "sequence": 1, "offset": 10, "length": 3})
		self.ok("write", "--publish", "n", input=b"")
		self.assertEqual(self.json("stat", "n")["sequence"], 1, "nothing was written, so nothing is published")

	def test_ranges(self):
		self.assertEqual(self.json("publish", "n"), {"name": "n", "offset": 0, "length": 4096, "sequence": 1})
		self.assertEqual(self.json("publish", "-s", "96", "n")["length"], 4000)
		self.assertEqual(self.json("publish", "-s", "96", "-n", "4", "n")["length"], 4)
		self.assertEqual(self.json("publish", "-n", "4", "n")["length"], 4)
		self.assertEqual(self.json_error(1, "publish", "-s", "4096", "n")["error"], "out-of-bounds")
		self.assertEqual(self.json_error(1, "publish", "-s", "4000", "-n", "97", "n")["error"], "out-of-bounds")
		self.fails(2, "at least 1", "publish", "-n", "0", "n")
		self.assertEqual(self.json("stat", "n")["sequence"], 4)


class Dump(DataCase):
	size = 100

	def test_as_hexdump(self):
		data = b"Hello, \x00\xff\x7f world" + b"A" * 64 + bytes(range(18))
		data = data[:self.size].ljust(self.size, b".")
		self.ok("write", "n", input=data)
		for options in ((), ("-s", "3"), ("-n", "20"), ("-s", "5", "-n", "33"), ("-v",)):
			with tempfile.NamedTemporaryFile() as file:
				file.write(data)
				file.flush()
				try:
					theirs = subprocess.run(["hexdump", "-C", *options, file.name], capture_output=True,
								check=True).stdout.decode()
				except FileNotFoundError:
					self.skipTest("no hexdump here")
			self.assertEqual(self.ok("dump", *options, "n"), theirs)

	def test_known_text(self):
		self.ok("write", "n", input=b"0123456789abcdef\n")
		self.assertEqual(self.ok("dump", "n"), """\
00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|
00000010  0a 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
00000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000060  00 00 00 00                                       |....|
00000064
""")

	def test_end(self):
		self.assertEqual(len(self.ok("dump", "-n", "1K", "n").splitlines()), 4)  # there is no more
		self.fails(1, "out of bounds: .* at offset 101", "dump", "-s", "101", "n")

	def test_json(self):
		self.ok("write", "n", input=b"abc")
		lines = self.json_lines("dump", "-n", "17", "n")
		self.assertEqual(lines, [{"offset": 0, "hex": "616263" + "00" * 13}, {"offset": 16, "hex": "00"}])


class Progress(DataCase):
	"""A line on the terminal, for long transfers alone."""

	def transfer(self, *options, pieces, delay):
		"""Feeds write through a pipe with stderr on a terminal. Return: what the terminal saw.

		The delay is what makes a transfer long here; nothing waits for it to be over.
		"""
		terminal, slave = pty.openpty()
		tty.setraw(slave)
		process = subprocess.Popen(["/bin/sh", "-c", f'for i in $(seq {pieces}); do echo x; sleep {delay}; done | '
					    '"$0" "$@"', SHMBCTL, "write", *options, "n"], env=self.broker.env, stderr=slave)
		os.close(slave)
		seen = b""
		while True:  # to the end: what a terminal was given arrives a moment after the writer has ended
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

	def test_long(self):
		seen = self.transfer(pieces=6, delay=0.15)
		self.assertRegex(seen, rb"\r\x1b\[K\d+  \d+/s")
		self.assertTrue(seen.endswith(b"\r\x1b[K"), "the line stays behind")

	def test_known_length(self):
		self.assertRegex(self.transfer("-n", "12", pieces=6, delay=0.15), rb"\d+ of 12  \d+ %  \d+/s  \d+ s left")

	def test_short(self):
		self.assertEqual(self.transfer(pieces=1, delay=0), b"")

	def test_unwanted(self):
		self.assertEqual(self.transfer("--no-progress", pieces=6, delay=0.15), b"")


if __name__ == "__main__":
	common.main()
