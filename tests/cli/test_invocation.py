#!/usr/bin/python3
"""The command line as such: help, usage, exit statuses, errors for people and in JSON, documents, completion."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import common
from common import BrokerCase, Case, SHMBCTL, SOURCE, ctl, environment

COMMANDS = ("create", "resize", "rm", "chmod", "chown", "ls", "stat", "stats", "ping", "features", "read", "write", "cp",
	    "export", "import", "dump", "flush", "advise", "publish", "wait", "watch", "run", "locks", "lock", "sem", "sem create", "sem wait", "sem take", "sem post",
	    "sem value")


def options(text):
	return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


class Help(Case):
	def test_help(self):
		text = self.check(ctl("--help"))
		self.assertEqual(text, self.check(ctl("help")))
		for command in COMMANDS:
			self.assertRegex(text, rf"(?m)^  {command} +[A-Z]")
			own = self.check(ctl(*command.split(), "--help"))
			self.assertTrue(own.startswith(f"Usage: shmbctl {command} "), own)
			self.assertEqual(own, self.check(ctl("help", *command.split())))
			self.assertLessEqual(max(map(len, own.splitlines())), 100)

	def test_version(self):
		for arguments in (["--version"], ["-V"], ["ls", "--version"]):
			self.assertRegex(self.check(ctl(*arguments)), r"^shmbctl \d+\.\d+\.\d+\n$")

	def test_manual_page_says_the_same(self):
		page = (SOURCE / "doc/man/shmbctl.1.scd").read_text()
		for command in COMMANDS:
			self.assertRegex(page, rf"(?m)^\*{command}\*")
			self.assertEqual(options(self.check(ctl(*command.split(), "--help"))) - options(page), set(), command)

	def test_completions_know_the_limits(self):
		page = (SOURCE / "doc/man/shmbroker.conf.5.scd").read_text()
		limits = re.search(r"^# SECTION \[limits\]\n(.*?)^# ", page, re.S | re.M).group(1)
		for name in ("shmbctl.bash", "_shmbctl"):
			text = (SOURCE / "cli/completion" / name).read_text()
			for key in re.findall(r"^\*([a-z-]+)\*=", limits, re.M):
				self.assertRegex(text, rf"\b{key}\b", name)

	def test_completions_say_the_same(self):
		for name in ("shmbctl.bash", "_shmbctl"):
			text = (SOURCE / "cli/completion" / name).read_text()
			for command in COMMANDS:
				words = command.split()
				self.assertRegex(text, rf"\b{words[-1]}\b")
				self.assertEqual(options(self.check(ctl(*words, "--help"))) - options(text), set(), (name, command))


class Usage(Case):
	def usage(self, message, *arguments):
		self.check(ctl(*arguments), 2, message)
		result = ctl("--json", *arguments)
		error = json.loads(result.stderr)
		self.assertEqual((result.returncode, error["error"], error["status"], result.stdout), (2, "usage", 2, b""))
		self.assertRegex(error["message"], message)
		self.assertIn("--help", error["hint"])

	def test_usage(self):
		self.usage("a command is missing")
		self.usage("there is no command 'frobnicate'", "frobnicate")
		self.usage("there is no command 'frobnicate'", "help", "frobnicate")
		self.usage("unknown or ambiguous option --frobnicate", "--frobnicate")
		self.usage("unknown or ambiguous option --frobnicate", "ls", "--frobnicate")
		self.usage("unknown or ambiguous option --no", "ls", "--no")
		self.usage("unknown option -Z", "ls", "-Z")
		self.usage("--json takes no argument", "ls", "--json=yes")
		self.usage("--address needs ADDRESS", "ls", "--address")
		self.usage("--offset needs OFFSET", "read", "n", "-s")
		self.usage("an argument is missing", "stat")
		self.usage("a size is missing", "create", "n")
		self.usage("too few arguments", "cp", "n")
		self.usage("too many arguments, from 'b' on", "read", "a", "b")
		self.usage("--timeout: 'soon' is no time in seconds", "--timeout=soon", "ls")
		self.usage("--timeout: '99999999' is no time in seconds", "ls", "-t", "99999999")
		self.usage("--offset: '-1' is no size", "read", "--offset=-1", "n")
		self.usage("--count: '1K' is no number", "watch", "-c1K", "n")
		self.usage("too many arguments, from 'b' on", "sem", "a", "b")
		self.usage("an argument is missing: usage: shmbctl sem create ", "sem", "create")
		self.usage("--holders needs the name of a lock", "locks", "--holders")
		self.usage("--holders needs the name of a semaphore", "sem", "-H")
		self.usage("'x' is no number from 1 to 2147483647", "sem", "post", "n", "x")
		self.usage("'0' is no number from 1 to 2147483647", "sem", "post", "n", "0")

	def test_usage_of_what_runs_commands(self):
		"""Statuses below 125 are those of the command that they run."""
		for message, *arguments in (
			("an argument is missing", "lock"),
			("a command is missing", "lock", "n"),
			("a command is missing", "lock", "n", "--"),
			("--create runs no command", "lock", "--create", "n", "true"),
			("exclude each other", "lock", "-s", "-x", "n", "true"),
			("need the lock exclusively", "lock", "-s", "--recover", "n", "true"),
			("need the lock exclusively", "lock", "-s", "--reset", "n", "true"),
			("--nonblock and a time to wait exclude each other", "lock", "-n", "-w", "1", "n", "true"),
			("--nonblock and a time to wait exclude each other", "lock", "-n", "-t", "1", "n", "true"),
			("--wait and --timeout are the same", "lock", "-w", "1", "-t", "1", "n", "true"),
			("--conflict-exit-code is 0 to 255", "lock", "-E", "256", "n", "true"),
			("--slots is 1 to 1024", "lock", "--slots=0", "n", "true"),
			("--existing makes no lock", "lock", "--existing", "--create", "n"),
			("--existing makes no lock", "lock", "--existing", "--slots=1", "n", "true"),
			("--existing makes no lock", "lock", "--existing", "--mode=0700", "n", "true"),
			("--existing makes no lock", "lock", "--existing", "--lifetime=attached", "n", "true"),
			("--lifetime: 'long' is none of", "lock", "--lifetime=long", "n", "true"),
			("would go with this command", "lock", "--create", "--lifetime=session", "n"),
			("--mode: '9' is no mode", "lock", "--mode=9", "n", "true"),
			("too few arguments", "sem", "take", "n"),
			("exclude each other", "sem", "take", "-n", "-t", "1", "n", "true"),
			("exclude each other", "sem", "wait", "-n", "-t", "1", "n", "true"),
		):
			self.check(ctl(*arguments), 125, message)


class NoBroker(Case):
	def refused(self, env, address, hint, *arguments):
		result = ctl(*arguments, "ls", env=env)
		self.check(result, 5, re.escape(f"(address: {address})") + r"\nshmbctl: .*" + hint)
		error = json.loads(ctl("--json", *arguments, "ls", env=env).stderr)
		self.assertEqual((error["error"], error["status"]), ("no-broker", 5))

	def test_nothing_there(self):
		with tempfile.TemporaryDirectory() as directory:
			env = environment(XDG_RUNTIME_DIR=directory)
			self.refused(env, "user", "shmbrokerd --user")
			self.refused(env, f"{directory}/x", "--private --socket", "-a", f"{directory}/x")
			env["SHMB_ADDRESS"] = f"{directory}/y"
			self.refused(env, f"{directory}/y", "--private --socket")
			self.refused(env, "user", "shmbrokerd --user", "--address=user")
		self.refused(environment(), "user", "XDG_RUNTIME_DIR is not set")

	def test_nobody_listens(self):
		with tempfile.TemporaryDirectory() as directory:
			path = f"{directory}/broker.sock"
			with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bound:
				bound.bind(path)
			self.refused(environment(SHMB_ADDRESS=path), path, "--private --socket")

	def test_address_that_is_none(self):
		self.check(ctl("-a", "sytsem", "ls"), 2, r"invalid argument \(address: sytsem\)\nshmbctl: an address is")

	def test_silent_broker(self):
		"""Something listens and never answers: --timeout bounds it."""
		with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bound:
			path = f"{directory}/broker.sock"
			bound.bind(path)
			bound.listen(1)
			self.check(ctl("--timeout=0.1", "-a", path, "ls"), 4, "timed out")


class Streams(BrokerCase):
	def test_output_that_cannot_be_written(self):
		with open("/dev/full", "wb") as full:
			for arguments in (["--help"], ["stats"], ["--json", "stats"]):
				self.check(self.broker.ctl(*arguments, stdout=full), 1, "No space left on device")

	def test_closed_streams(self):
		"""Without stdin, stdout and stderr, no socket takes their place."""
		result = subprocess.run(["/bin/sh", "-c", 'exec "$0" create n 1K <&- >&- 2>&-', SHMBCTL], env=self.broker.env,
					timeout=common.LIMIT)
		self.assertEqual(result.returncode, 0)
		self.assertEqual(self.json("stat", "n")["size"], 1024)

	def test_options_anywhere(self):
		self.ok("create", "n", "1")
		for arguments in (["--json", "stat", "n"], ["stat", "--json", "n"], ["stat", "n", "--json"]):
			self.assertEqual(json.loads(self.ok(*arguments))["name"], "n")
		result = ctl("stat", "n", f"--address={self.broker.address}", "-t5")
		self.check(result)

	def test_strings_in_json(self):
		for name in ('a"b\\c', "a\nb", "a\tb", "\u00fc", "a\x7f"):
			error = self.json_error(1, "stat", name)
			self.assertEqual((error["name"], error["error"]), (name, "invalid-argument"))
		result = self.broker.ctl("--json", "stat", os.fsdecode(b"a\xff\xc3"))
		self.assertEqual(json.loads(result.stderr)["name"], "a\ufffd\ufffd")


class Bash(BrokerCase):
	"""Completion in bash, called as the shell calls it."""

	SCRIPT = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
compopt() { :; }
_shmbctl
printf '%s\n' "${COMPREPLY[@]}"
"""

	def setUp(self):
		super().setUp()
		if shutil.which("bash") is None:
			self.skipTest("no bash here")
		for name in ("cam/0", "cam/1", "other", f"~{os.getuid()}/own"):
			self.ok("create", name, "1")

	def complete(self, *words, env=None, prelude=""):
		result = subprocess.run(["bash", "-c", prelude + self.SCRIPT, "bash", SOURCE / "cli/completion/shmbctl.bash",
					 SHMBCTL, *words], env=env or self.broker.env, capture_output=True, text=True,
					timeout=common.LIMIT)
		self.assertEqual(result.stderr, "")
		return [word for word in result.stdout.split("\n") if word]

	def test_commands_and_options(self):
		self.assertEqual(self.complete("re"), ["resize", "read"])
		self.assertEqual({command.split()[0] for command in COMMANDS} - set(self.complete("")), set())
		self.assertEqual(self.complete("create", "--ca"), ["--capacity="])
		self.assertEqual(self.complete("create", "--backing", ""), ["shm", "memfd", "hugetlb"])
		self.assertEqual(self.complete("create", "--backing", "=", "me"), ["memfd"])
		self.assertEqual(self.complete("create", "--backing", "="), ["shm", "memfd", "hugetlb"])
		self.assertEqual(self.complete("create", "--hugep"), ["--hugepages"])
		self.assertEqual(self.complete("create", "--hugepages", "=", "re"), ["require"])
		self.assertEqual(self.complete("create", "--hugepages", "re"), [])
		self.assertEqual(self.complete("import", "--si"), ["--size="])
		self.assertEqual(self.complete("cp", "--ex"), ["--exclusive"])
		self.assertEqual(self.complete("features", "huget"), ["hugetlb"])
		self.assertEqual(self.complete("help", "sta"), ["stat", "stats"])
		self.assertEqual(self.complete("help", "sem", "p"), ["post"])
		self.assertEqual(self.complete("lock", "--sh"), ["--shared"])
		self.assertEqual(self.complete("lock", "--lifetime", "=", "p"), ["persistent"])
		self.assertEqual(self.complete("sem", "cr"), ["create"])
		self.assertEqual(self.complete("sem", "--q"), ["--quiet"])
		self.assertEqual(self.complete("sem", "create", "--ow"), ["--owned"])
		self.assertEqual(self.complete("sem", "take", "--non"), ["--nonblock"])
		self.assertEqual(self.complete("sem", "take", "--ow"), [])

	def test_names(self):
		self.assertEqual(self.complete("read", "cam/"), ["cam/0", "cam/1"])
		self.assertEqual(self.complete("rm", "cam/0", "o"), ["other"])
		self.assertEqual(self.complete("ls", "-l", "o"), ["other"])
		self.assertEqual(self.complete("read", "-n", "5", "o"), ["other"])
		self.assertEqual(self.complete("read", "cam/0", "o"), [])
		self.assertEqual(self.complete("chmod", "0600", "o"), ["other"])
		self.assertEqual(self.complete("flush", "-s", "4K", "o"), ["other"])
		self.assertEqual(self.complete("advise", "other", "wi"), ["willneed"])
		self.assertEqual(self.complete("cp", "-m", "0700", "other", "cam/"), ["cam/0", "cam/1"])
		self.assertEqual(self.complete("export", "cam/"), ["cam/0", "cam/1"])
		with tempfile.TemporaryDirectory() as directory:
			(pathlib.Path(directory) / "file").touch()
			for command in (["export", "cam/0"], ["import"], ["create", "--file"], ["create", "--file", "="]):
				self.assertEqual(self.complete(*command, f"{directory}/"), [f"{directory}/file"], command)
			self.assertEqual(self.complete("import", f"{directory}/file", "o"), ["other"])
		self.assertEqual(self.complete("stat", "\\~"), [f"\\~{os.getuid()}/own"])

	def test_names_of_other_kinds(self):
		self.ok("lock", "--create", "cam/lock")
		self.ok("sem", "create", "cam/sem")
		self.ok("lock", "cam/0", "--", "true")  # which locks lists, as ls does
		self.assertEqual(self.complete("read", "cam/"), ["cam/0", "cam/1"])
		self.assertEqual(self.complete("locks", "cam/"), ["cam/0", "cam/lock"])
		self.assertEqual(self.complete("lock", "cam/"), ["cam/0", "cam/1", "cam/lock"])
		self.assertEqual(self.complete("lock", "-s", "-n", "cam/l"), ["cam/lock"])
		self.assertEqual(self.complete("lock", "-w", "5", "cam/l"), ["cam/lock"])
		self.assertEqual(self.complete("rm", "cam/"), ["cam/0", "cam/1", "cam/lock", "cam/sem"])
		for command in (["sem"], ["sem", "wait"], ["sem", "take", "-n"], ["sem", "post"], ["sem", "value"]):
			self.assertEqual(self.complete(*command, "cam/"), ["cam/sem"], command)
		self.assertEqual(self.complete("sem", "post", "cam/sem", ""), [])
		for command in (["lock", "cam/0"], ["lock", "cam/0", "--"], ["sem", "take", "cam/sem"], ["run"], ["run", "--"]):
			self.assertIn("shuf", self.complete(*command, "shu"), command)

	def test_broker_of_the_line(self):
		for words in (["-a", self.broker.address], [f"--address={self.broker.address}"],
			      ["--address", "=", self.broker.address]):
			self.assertEqual(self.complete(*words, "stat", "o", env=environment(HOME="/", XDG_RUNTIME_DIR="/none")),
					 ["other"], words)

	def test_without_a_broker(self):
		self.assertEqual(self.complete("stat", "o", env=environment(XDG_RUNTIME_DIR="/none")), [])

	def test_with_bash_completion(self):
		path = "/usr/share/bash-completion/bash_completion"
		if not os.path.exists(path):
			self.skipTest("no bash-completion here")
		self.assertEqual(self.complete("read", "cam/", prelude=f"source {path}\n"), ["cam/0", "cam/1"])


if __name__ == "__main__":
	common.main()
