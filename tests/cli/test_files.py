#!/usr/bin/python3
"""Regions that are made of files: create --file, flush."""

import mmap
import os
import pathlib
import tempfile

import common
from common import BrokerCase, WatchingCase


class FileCase(BrokerCase):
	def setUp(self):
		super().setUp()
		directory = tempfile.TemporaryDirectory(prefix="shmb-cli-files.", dir="/var/tmp")  # a disk, if there is one
		self.addCleanup(directory.cleanup)
		self.directory = pathlib.Path(directory.name)
		self.path = self.directory / "data"


class F02_File(FileCase):
	def test_as_it_is(self):
		self.path.write_bytes(b"hello, world")
		info = self.json("create", f"--file={self.path}", "n")
		self.assertEqual((info["size"], info["capacity"], info["backing"], info["path"]),
				 (12, 12, "file", str(self.path)))
		self.assertEqual(self.ok("read", "n"), "hello, world")
		self.ok("write", "-s", "7", "n", input=b"there")
		self.assertEqual(self.path.read_bytes(), b"hello, there")
		self.path.write_bytes(b"HELLO")  # shortens it
		self.ok("rm", "n")
		self.assertEqual(self.path.read_bytes(), b"HELLO")

	def test_made_if_there_is_a_size(self):
		error = self.json_error(1, "create", f"--file={self.path}", "n")
		self.assertEqual((error["error"], error["what"]), ("not-found", str(self.path)))
		self.fails(1, f"create: {self.path}: No such file", "create", f"--file={self.path}", "n")
		self.assertIn("SIZE", error["hint"])
		self.assertFalse(self.path.exists())
		self.ok("create", f"--file={self.path}", "--file-mode=0640", "n", "1M")
		stat = self.path.stat()
		self.assertEqual((stat.st_size, stat.st_mode & 0o777), (1 << 20, 0o640))
		self.assertEqual(self.ok("read", "-n", "4", "n"), "\0" * 4)

	def test_mode_and_umask(self):
		self.ok("create", f"--file={self.path}", "n", "1")
		self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
		self.ok("create", f"--file={self.path}2", "--file-mode=0666", "m", "1", preexec_fn=lambda: os.umask(0o027))
		self.assertEqual(os.stat(f"{self.path}2").st_mode & 0o777, 0o640)

	def test_longer_and_shorter(self):
		self.path.write_bytes(b"abc")
		self.assertEqual(self.json("create", "--file", self.path, "n", "8")["size"], 8)
		self.assertEqual(self.path.read_bytes(), b"abc" + bytes(5))
		self.ok("rm", "n")
		self.path.write_bytes(b"abcdefgh")
		self.assertEqual(self.json("create", "--file", self.path, "n", "3")["size"], 3)
		self.assertEqual(self.path.read_bytes(), b"abcdefgh")
		self.assertEqual(self.ok("read", "n"), "abc")

	def test_truncate(self):
		self.path.write_bytes(b"abcdefgh")
		self.ok("create", "--file", self.path, "--truncate", "n", "4")
		self.assertEqual(self.path.read_bytes(), bytes(4))
		self.ok("write", "n", input=b"kept")
		self.ok("create", "--file", self.path, "--truncate", "--or-open", "n", "4")
		self.assertEqual(self.path.read_bytes(), b"kept")

	def test_new_file(self):
		self.ok("create", "--file", self.path, "--new-file", "n", "4")
		error = self.json_error(1, "create", "--file", self.path, "--new-file", "m", "4")
		self.assertEqual((error["error"], error["what"]), ("exists", str(self.path)))
		self.assertIn("--new-file", error["hint"])

	def test_read_only(self):
		self.path.write_bytes(b"fixed")
		self.path.chmod(0o400)
		self.ok("create", "--file", self.path, "--read-only", "n")
		self.assertEqual(self.ok("read", "n"), "fixed")
		error = self.json_error(1, "write", "n", input=b"other")
		self.assertEqual((error["error"], error["what"]), ("denied", "file opened read-only"))
		self.assertIn("made with --read-only", error["hint"])
		self.assertEqual(self.path.read_bytes(), b"fixed")
		self.fails(1, "none: No such file", "create", "--file", self.directory / "none", "--read-only", "m")
		error = self.json_error(1, "create", "--file", self.path, "--read-only", "m", "6")
		self.assertEqual((error["error"], error["what"]), ("wrong-mode", str(self.path)))
		self.assertIn("not made longer", error["hint"])

	def test_refused(self):
		os.mkfifo(self.path)
		for path in (self.path, self.directory, "/dev/null"):
			error = self.json_error(1, "create", "--file", path, "n")
			self.assertEqual((error["error"], error["what"]), ("unsupported", str(path)))
			self.assertIn("regular file", error["hint"])
		self.assertEqual(self.ok("ls"), "")

	def test_empty(self):
		self.path.write_bytes(b"")
		error = self.json_error(1, "create", "--file", self.path, "n")
		self.assertEqual((error["error"], error["what"]), ("invalid-argument", "size"))
		self.assertIn("for a file that is empty, give a SIZE", error["hint"])
		self.ok("create", "--file", self.path, "n", "1")

	def test_looks(self):
		self.path.write_bytes(b"abcd")
		self.ok("create", "--file", self.path, "n")
		self.assertRegex(self.ok("stat", "n"), rf"(?m)^ +Backing: file\n +File: {self.path}$")
		self.assertRegex(self.ok("ls", "-l", "n"), r" file +persistent ")
		self.ok("create", "m", "1")
		self.assertNotIn("path", self.json("stat", "m"))
		self.assertNotIn("File", self.ok("stat", "m"))

	def test_usage(self):
		for options in (["--capacity=1M"], ["--backing=shm"], ["--memfd"], ["--hugepages"]):
			self.fails(2, "not for it", "create", "--file=x", *options, "n", "1")
		for options in (["--truncate"], ["--new-file"], ["--reserve"]):
			self.fails(2, "changes no file", "create", "--file=x", "--read-only", *options, "n", "1")
		for option in ("--truncate", "--new-file"):
			self.fails(2, "need a size", "create", "--file=x", option, "n")
		for option in ("--truncate", "--new-file", "--read-only", "--file-mode=0600"):
			self.fails(2, "are about a --file", "create", option, "n", "1")
		for mode in ("u=rw", "9", "01000"):
			self.fails(2, "is no octal mode", "create", "--file=x", f"--file-mode={mode}", "n", "1")
		self.fails(2, "at least one byte", "create", "--file=x", "n", "0")


class F28_ExportOfFile(FileCase):
	def test_its_own_file(self):
		self.path.write_bytes(b"precious")
		self.ok("create", "--file", self.path, "n")
		other = self.directory / "other"
		os.link(self.path, other)
		for path in (self.path, other):
			self.fails(1, "is the file that the region is made of", "export", "n", path)
		self.assertEqual(self.path.read_bytes(), b"precious")


class F30_Flush(FileCase):
	def test_on_disk(self):
		"""The bytes that another process wrote are no longer dirty when flush returns."""
		self.path.write_bytes(bytes(64 * 4096))
		self.ok("create", "--file", self.path, "n")
		with open(self.path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
			mapping[0:8] = b"written!"
			self.assertEqual(self.json("flush", "n"), {"name": "n", "offset": 0, "length": 64 * 4096})
			self.assertEqual(self.dirty(file), 0)
			mapping[4096:4104] = b"written!"
			self.assertEqual(self.json("flush", "-s", "4K", "-n", "8", "n"),
					 {"name": "n", "offset": 4096, "length": 8})
			self.assertEqual(self.dirty(file), 0)
		self.assertEqual(self.path.read_bytes()[:8], b"written!")

	def dirty(self, file):
		"""KiB of the mappings of this file that are dirty in this process."""
		inode, found, dirty = os.fstat(file.fileno()).st_ino, False, 0
		for line in pathlib.Path("/proc/self/smaps").read_text().splitlines():
			words = line.split()
			if not words[0].endswith(":"):
				found = words[4] == str(inode)
			elif found and words[0] in ("Shared_Dirty:", "Private_Dirty:"):
				dirty += int(words[1])
		return dirty

	def test_start(self):
		self.path.write_bytes(bytes(4096))
		self.ok("create", "--file", self.path, "n")
		self.assertEqual(self.ok("flush", "--start", "n"), "")

	def test_memory(self):
		self.ok("create", "n", "8K")
		self.assertEqual(self.ok("flush", "n"), "")
		self.assertEqual(self.json("flush", "-s", "8K", "n"), {"name": "n", "offset": 8192, "length": 0})
		self.assertEqual(self.json_error(1, "flush", "-s", "4K", "-n", "5K", "n")["error"], "out-of-bounds")
		self.fails(3, "nothing of that name", "flush", "none")


class F38_WatchFile(FileCase, WatchingCase):
	def setUp(self):
		super().setUp()
		self.path.write_bytes(b"hello")
		self.ok("create", "--file", self.path, "n")

	def test_written(self):
		process = self.watch("-c", "1")
		with open(self.path, "r+b") as file:
			file.write(b"HELLO")
		self.assertEqual(self.line(process)["types"], ["file"])
		self.end(process)

	def test_shortened(self):
		process = self.watch("--types=file,removed", "-c", "1")
		self.ok("publish", "n")  # not asked for
		os.truncate(self.path, 3)
		self.assertEqual(self.line(process)["types"], ["file"])
		self.end(process)

	def test_replaced(self):
		process = self.watch("--types=file", "-c", "1")
		(self.directory / "new").write_bytes(b"other")
		os.replace(self.directory / "new", self.path)
		self.assertEqual(self.line(process)["types"], ["file"])
		self.end(process)


if __name__ == "__main__":
	common.main()
