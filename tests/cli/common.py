"""What the tests of shmbctl share: the programs, a private broker by socket activation, and its traces."""

import glob
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

SHMBCTL = os.environ["SHMBCTL"]
SHMBROKERD = os.environ["SHMBROKERD"]
SOURCE = pathlib.Path(os.environ["SHMB_SOURCE"])
LIMIT = 60  # seconds until something that hangs is called that


def environment(**changes):
	"""The environment without anything that would lead shmbctl elsewhere; None takes a variable away."""
	result = {k: v for k, v in os.environ.items() if not k.startswith(("SHMB_", "LISTEN_", "NOTIFY_", "XDG_"))}
	for key, value in changes.items():
		result.pop(key, None)
		if value is not None:
			result[key] = str(value)
	return result


def ctl(*arguments, env=None, **more):
	"""Runs shmbctl to its end. stdin is empty unless given."""
	if "input" not in more:
		more.setdefault("stdin", subprocess.DEVNULL)
	more.setdefault("stdout", subprocess.PIPE)
	more.setdefault("stderr", subprocess.PIPE)
	result = subprocess.run([SHMBCTL, *map(str, arguments)], env=env or environment(), timeout=LIMIT, **more)
	if result.stderr is not None:
		# gcov's complaints, of a process that runs as a user who may not write its counts.
		result.stderr = re.sub(rb"(?m)^profiling:.*\n", b"", result.stderr)
	return result


def objects(instance):
	"""What a broker instance has in /dev/shm."""
	return glob.glob(f"/dev/shm/shmb.{instance}.*")


def lock_of(directory):
	"""Process id and instance of the broker of this runtime directory."""
	pid, instance = (pathlib.Path(directory) / "broker.lock").read_text().split()
	return int(pid), instance


class Broker:
	"""A private broker on a socket that is there before it: clients can connect at once."""

	def __init__(self, *options):
		self.directory = tempfile.mkdtemp(prefix="shmb-cli.")
		self.address = os.path.join(self.directory, "broker.sock")
		listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		listener.bind(self.address)
		listener.listen(64)
		lifeline, self.lifeline = os.pipe()
		self.pid = os.fork()
		if self.pid == 0:
			try:
				self._become(listener.fileno(), lifeline, options)
			finally:
				os._exit(126)
		listener.close()
		os.close(lifeline)
		self.env = environment(SHMB_ADDRESS=self.address)

	def _become(self, listener, lifeline, options):
		copies = [os.dup2(fd, 20 + i, inheritable=False) for i, fd in enumerate((listener, lifeline))]
		for i, fd in enumerate(copies):
			os.dup2(fd, 3 + i)
		env = environment(LISTEN_PID=os.getpid(), LISTEN_FDS=1)
		os.execve(SHMBROKERD, [SHMBROKERD, "--private", f"--runtime-directory={self.directory}", "--exit-on-eof=4",
				       "--log-level=warning", *options], env)

	def ctl(self, *arguments, **more):
		more.setdefault("env", self.env)
		return ctl(*arguments, **more)

	def start(self, *arguments, **more):
		more.setdefault("stdin", subprocess.DEVNULL)
		return subprocess.Popen([SHMBCTL, *map(str, arguments)], env=self.env, stdout=subprocess.PIPE,
					stderr=subprocess.PIPE, **more)

	def instance(self):
		self.ctl("ping", check=True)  # then it has its lock
		return lock_of(self.directory)[1]

	def stop(self):
		"""Return: how it ended, as subprocess has it."""
		if self.pid is None:
			return None
		os.close(self.lifeline)
		_, status = os.waitpid(self.pid, 0)
		self.pid = None
		shutil.rmtree(self.directory)
		return os.waitstatus_to_exitcode(status)


class Case(unittest.TestCase):
	"""A test with nothing but programs."""

	def check(self, result, status=0, stderr=None):
		"""The command ended like this; a success has nothing to complain about."""
		text = result.stderr.decode() if result.stderr is not None else ""
		self.assertEqual(result.returncode, status, text)
		if stderr is not None:
			self.assertRegex(text, stderr)
		elif status == 0:
			self.assertEqual(text, "")
		return result.stdout.decode() if result.stdout is not None else ""


class BrokerCase(Case):
	"""A test with a broker of its own, which must end in order and leave nothing."""

	broker_options = ()

	def setUp(self):
		self.broker = Broker(*self.broker_options)
		self.addCleanup(self._stop)

	def _stop(self):
		if self.broker.pid is None:
			return
		try:
			instance = self.broker.instance()
		finally:  # even a broker that is no more has a directory
			status = self.broker.stop()
		self.assertEqual(status, 0, "the broker did not end in order")
		self.assertEqual(objects(instance), [], "left in /dev/shm")

	def ok(self, *arguments, **more):
		return self.check(self.broker.ctl(*arguments, **more))

	def fails(self, status, stderr, *arguments, **more):
		return self.check(self.broker.ctl(*arguments, **more), status, stderr)

	def json(self, *arguments, **more):
		"""The one object that the command printed."""
		return json.loads(self.ok("--json", *arguments, **more))

	def json_lines(self, *arguments, **more):
		return [json.loads(line) for line in self.ok("--json", *arguments, **more).splitlines()]

	def json_error(self, status, *arguments, **more):
		result = self.broker.ctl("--json", *arguments, **more)
		self.assertEqual(result.returncode, status, result.stderr)
		error = json.loads(result.stderr)
		self.assertEqual(error["status"], status)
		return error


class WatchingCase(BrokerCase):
	"""A test of what watches say."""

	def start(self, *arguments):
		process = self.broker.start(*arguments)
		self.addCleanup(process.stdout.close)
		self.addCleanup(process.stderr.close)
		self.addCleanup(process.wait)
		self.addCleanup(process.kill)
		return process

	def watch(self, *arguments, regions=("n",)):
		"""Return: the process, once it can miss nothing more."""
		process = self.start("--json", "watch", *arguments, *regions)
		for name in regions:
			line = json.loads(process.stdout.readline())
			self.assertEqual((line["name"], line["types"]), (name, ["watching"]))
		return process

	def line(self, process):
		return json.loads(process.stdout.readline())

	def end(self, process, status=0, stderr=b""):
		self.assertEqual(process.wait(LIMIT), status)
		self.assertEqual(process.stdout.read(), b"")
		text = process.stderr.read()
		if status == 0:
			self.assertEqual(text, stderr)
		else:
			self.assertIn(stderr, text)


class CoordinationCase(BrokerCase):
	"""A test of what commands hold."""

	# Says that it runs and what it was told, and ends with what it reads.
	COMMAND = ("sh", "-c", 'echo "held $$ ${SHMB_PERMIT--} ${SHMB_OWNER_DIED--}"; read status; exit ${status:-0}')

	def spawn(self, *arguments, **more):
		process = self.broker.start(*arguments, **more)
		for stream in (process.stdin, process.stdout, process.stderr):
			if stream is not None:
				self.addCleanup(stream.close)
		self.addCleanup(process.wait)
		self.addCleanup(process.kill)
		return process

	def hold(self, *arguments):
		"""Starts shmbctl with these and a command. Return: the process, once the command runs; `command` is its pid."""
		process = self.spawn(*arguments, "--", *self.COMMAND, stdin=subprocess.PIPE)
		self.await_held(process)
		return process

	def await_held(self, process):
		words = process.stdout.readline().decode().split()
		if not words:
			self.fail(f"it did not run: {process.stderr.read().decode()}")
		self.assertEqual(words[0], "held")
		process.command, process.permit, process.owner_died = int(words[1]), words[2], words[3]

	def finish(self, process, status=0):
		process.stdin.write(f"{status}\n".encode())
		process.stdin.close()
		self.assertEqual(process.wait(LIMIT), status)
		return process.stderr.read().decode()

	def kill(self, process):
		"""SIGKILL for shmbctl. Returns when its command is gone, too: then nobody can write to the pipe any more."""
		process.kill()
		self.assertEqual(process.stdout.read(), b"")
		self.assertEqual(process.wait(LIMIT), -signal.SIGKILL)

	def until(self, key, value, *arguments):
		"""Asks until the one object that a command prints says so: for what others do in their own time."""
		deadline = time.monotonic() + LIMIT
		while True:
			found = self.json_lines(*arguments)
			if len(found) == 1 and found[0][key] == value:
				return found[0]
			self.assertLess(time.monotonic(), deadline, found)


def main():
	unittest.main(module="__main__")
