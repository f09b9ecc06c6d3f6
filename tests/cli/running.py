"""What the tests of shmbctl run share."""

import json
import os
import subprocess
import tempfile

import common
from common import SHMBCTL, SHMBROKERD, environment, objects

# Prints where the broker is and who it is, as JSON; then goes on as the rest of the script says.
TELL = r"""
import json, os, pathlib, sys, subprocess, signal
directory = pathlib.Path(os.environ["SHMB_ADDRESS"]).parent
pid, instance = (directory / "broker.lock").read_text().split()
parent = int((pathlib.Path("/proc") / pid / "stat").read_text().rsplit(")", 1)[1].split()[1])
def tell(**more):
	print(json.dumps(dict(directory=str(directory), broker=int(pid), instance=instance, keeper=parent, **more)),
	      flush=True)
def ctl(*arguments, **more):
	return subprocess.run([os.environ["CTL"], *arguments], check=True, **more)
"""


class RunCase(common.Case):
	"""Everything happens below a directory of this test, which must be empty in the end."""

	def setUp(self):
		self.home = tempfile.TemporaryDirectory(prefix="shmb-run.")
		self.addCleanup(self.home.cleanup)
		self.env = environment(SHMBROKERD=SHMBROKERD, TMPDIR=self.home.name, CTL=SHMBCTL)

	def run_(self, *arguments, **more):
		more.setdefault("env", self.env)
		result = common.ctl("run", *arguments, **more)
		self.assert_clean()
		return result

	def python(self, script, *options, **more):
		return self.run_(*options, "--", "/usr/bin/python3", "-c", TELL + script, **more)

	def start(self, script, *options, **more):
		more.setdefault("stdin", subprocess.PIPE)
		process = subprocess.Popen([SHMBCTL, "run", *options, "--", "/usr/bin/python3", "-c", TELL + script],
					   env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
		self.addCleanup(self.finish, process)
		return process

	def finish(self, process):
		for stream in (process.stdin, process.stdout, process.stderr):
			if stream is not None and not stream.closed:
				stream.close()
		process.wait(common.LIMIT)

	def told(self, process):
		return json.loads(process.stdout.readline())

	def assert_clean(self, told=None):
		self.assertEqual(os.listdir(self.home.name), [], "left in the temporary directory")
		if told is not None:
			self.assertEqual(objects(told["instance"]), [], "left in /dev/shm")
