#!/usr/bin/python3
"""shmbctl run while its broker is killed: commands that run go on, and what there was is there."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import common
from common import LIMIT, SHMBCTL, SHMBROKERD, environment, lock_of, objects

KILLED = "shmbctl: run: the broker was killed by signal 9 (Killed) and has been started again\n"


class RunBroker:
	"""The broker of a shmbctl run, whose command just waits; used like common.Broker."""

	def __init__(self, *options):
		self.home = tempfile.mkdtemp(prefix="shmb-survival.")
		self.process = subprocess.Popen(
			[SHMBCTL, "run", *options, "--", "sh", "-c", 'echo "$SHMB_ADDRESS"; cat >/dev/null'],
			env=environment(SHMBROKERD=SHMBROKERD, TMPDIR=self.home), stdin=subprocess.PIPE,
			stdout=subprocess.PIPE, stderr=subprocess.PIPE)
		address = self.process.stdout.readline().decode().strip()
		self.directory = os.path.dirname(address)
		self.env = environment(SHMB_ADDRESS=address)
		self.keeper = int(pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])

	ctl = common.Broker.ctl
	start = common.Broker.start

	@property
	def pid(self):
		return lock_of(self.directory)[0] if self.process.returncode is None else None

	def instance(self):
		return lock_of(self.directory)[1]

	def keeper_fds(self):
		self.ctl("ping", check=True)
		return len(os.listdir(f"/proc/{self.keeper}/fd"))

	def kill(self):
		"""Returns when the next one serves. Return: what was told."""
		os.kill(self.pid, signal.SIGKILL)
		return self.process.stderr.readline().decode()

	def stop(self):
		self.process.stdin.close()
		self.told = self.process.stderr.read().decode()  # until all who can write to it are gone
		status = self.process.wait(LIMIT)
		self.process.stdout.close()
		self.process.stderr.close()
		shutil.rmtree(self.home)
		return status


class SurvivalCase(common.CoordinationCase):
	def setUp(self):
		self.broker = RunBroker()
		self.addCleanup(self._stop)

	def _stop(self):
		super()._stop()
		self.assertEqual(self.broker.told, "")

	def kill(self, times=1):
		for _ in range(times):
			self.assertEqual(self.broker.kill(), KILLED)

	kill_holder = common.CoordinationCase.kill

	def make(self, name, contents, *options):
		self.ok("create", name, len(contents), *options)
		self.ok("write", name, input=contents)

	def read(self, name):
		return self.ok("read", name).encode()


class Things(SurvivalCase):
	"""What there was before."""

	def test_regions(self):
		contents = {backing: os.urandom(50000).hex().encode() for backing in ("shm", "memfd")}
		for backing, data in contents.items():
			self.make(backing, data, f"--backing={backing}", "--mode=0640", "--capacity=1M")
		before = {name: self.json("stat", name) for name in contents}
		self.kill()
		for name, data in contents.items():
			self.assertEqual(self.read(name), data)
			self.assertEqual(self.json("stat", name), before[name])
			self.ok("resize", name, "1M")
			self.ok("write", "--publish", "--offset=1000000", name, input=b"more")
		self.kill()
		for name, data in contents.items():
			self.assertEqual(self.read(name)[:len(data)], data)
			self.assertEqual(self.ok("read", "--offset=1000000", "--length=4", name), "more")
			self.assertEqual(self.json("stat", name)["sequence"], before[name]["sequence"] + 1)
		self.ok("rm", *contents)
		self.kill()
		self.assertEqual(self.ok("ls", "-q"), "")

	def test_ten_in_a_row(self):
		for backing in ("shm", "memfd"):
			self.make(backing, b"kept", f"--backing={backing}")
		self.ok("sem", "create", "--initial=3", "counting")
		self.ok("lock", "--create", "lock")
		instance = self.broker.instance()
		for i in range(10):
			self.kill()
			self.assertEqual((self.read("shm"), self.read("memfd")), (b"kept", b"kept"))
			self.assertEqual(self.ok("sem", "value", "counting"), f"{3 + i}\n")
			self.ok("sem", "post", "counting")
			self.ok("lock", "lock", "--", "true")
		self.assertEqual(self.broker.instance(), instance)

	def test_stopped_in_order(self):
		"""SIGTERM to the broker alone is not the end either."""
		self.make("memfd", b"kept", "--backing=memfd")
		os.kill(self.broker.pid, signal.SIGTERM)
		self.assertEqual(self.broker.process.stderr.readline().decode(),
				 "shmbctl: run: the broker ended with exit status 0 and has been started again\n")
		self.assertEqual(self.read("memfd"), b"kept")

	def test_removed_while_none_runs(self):
		"""Nothing of the store is left when what it is for has gone."""
		before = self.broker.keeper_fds()
		for i in range(20):
			self.make(f"m{i}", b"kept", "--backing=memfd")
		holding = self.spawn("create", "--hold", "--backing=memfd", "held", "4K")
		self.assertEqual(holding.stdout.readline(), b"holding held\n")
		self.assertGreater(self.broker.keeper_fds(), before + 20)
		os.kill(self.broker.pid, signal.SIGSTOP)
		holding.kill()
		holding.wait()
		self.kill()
		self.ok("rm", *(f"m{i}" for i in range(20)))
		self.assertEqual(self.ok("ls", "-q"), "")
		self.assertEqual(self.broker.keeper_fds(), before)
		self.kill()
		self.assertEqual(self.broker.keeper_fds(), before)


class Commands(SurvivalCase):
	"""Commands that were running go on."""

	def test_lock(self):
		holder = self.hold("lock", "job")
		self.kill()
		self.fails(1, "not had in time", "lock", "--nonblock", "job", "--", "true")
		waiter = self.spawn("lock", "job", "--", "echo", "mine")
		self.until("waiting_exclusive", 1, "locks", "job")
		self.kill()
		self.finish(holder)
		self.assertEqual(waiter.communicate(timeout=LIMIT), (b"mine\n", b""))
		self.assertEqual(waiter.returncode, 0)
		self.assertEqual(self.ok("locks", "-q"), "")

	def test_lock_of_a_region(self):
		for backing in ("shm", "memfd"):
			self.make(backing, b"kept", f"--backing={backing}")
			holder = self.hold("lock", "--shared", backing)
			self.kill()
			self.ok("lock", "--shared", "--nonblock", backing, "--", "true")
			self.fails(1, "not had in time", "lock", "--nonblock", backing, "--", "true")
			self.finish(holder)
			self.ok("lock", "--nonblock", backing, "--", "true")

	def test_holder_that_dies_meanwhile(self):
		holder = self.hold("lock", "--lifetime=persistent", "job")
		os.kill(self.broker.pid, signal.SIGSTOP)
		self.kill_holder(holder)
		self.kill()
		result = self.broker.ctl("lock", "job", "--", "sh", "-c", "echo $SHMB_OWNER_DIED")
		self.assertEqual((result.returncode, result.stdout), (0, b"1\n"))

	def test_permits(self):
		self.ok("sem", "create", "--owned", "--max=2", "pool")
		holder = self.hold("sem", "take", "pool")
		self.kill()
		self.assertEqual(self.ok("sem", "value", "pool"), "1\n")
		other = self.hold("sem", "take", "pool")
		self.assertNotEqual(holder.permit, other.permit)
		self.kill()
		self.assertEqual(self.ok("sem", "value", "pool"), "0\n")
		self.finish(holder)
		self.finish(other)
		self.assertEqual(self.ok("sem", "value", "pool"), "2\n")

	def test_watch_and_wait(self):
		for backing in ("shm", "memfd"):
			self.make(backing, b"kept", f"--backing={backing}")
			watch = self.spawn("watch", backing)
			self.assertRegex(watch.stdout.readline().decode(), "watching")
			wait = self.spawn("wait", "--seen=0", backing)
			self.kill()
			self.ok("publish", backing)
			self.assertRegex(watch.stdout.readline().decode(), "published")
			self.assertEqual(wait.wait(LIMIT), 0, wait.stderr.read())
			self.kill()
			self.ok("rm", backing)
			self.assertRegex(watch.stdout.readline().decode(), "removed")
			self.assertEqual(watch.wait(LIMIT), 0)

	def test_scripts(self):
		"""Nothing that a script does fails, or is done twice, wherever the broker's death falls."""
		self.ok("sem", "create", "--initial=0", "sum")
		before = self.broker.keeper_fds()
		script = """ctl() { "$CTL" --timeout=60 "$@"; }
		for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
			ctl create --backing=$1 $1/$2 4K && echo $i | ctl write $1/$2 && ctl resize $1/$2 2K &&
			ctl lock --existing $1/$2 -- true && [ "$(ctl read --length=${#i} $1/$2)" = $i ] &&
			ctl sem post sum && ctl rm $1/$2 || exit
		done"""
		shells = [subprocess.Popen(["sh", "-c", script, "sh", backing, str(n)], env=dict(self.broker.env, CTL=SHMBCTL),
					   stderr=subprocess.PIPE) for backing in ("shm", "memfd") for n in range(2)]
		self.kill(8)
		for shell in shells:
			_, err = shell.communicate(timeout=LIMIT)
			self.assertEqual((shell.returncode, err), (0, b""))
		self.assertEqual(self.ok("sem", "value", "sum"), f"{15 * len(shells)}\n")
		self.assertEqual(self.ok("ls", "-q"), "")
		self.assertEqual(self.broker.keeper_fds(), before)

	def test_request_while_none_runs(self):
		"""What is asked of a broker that is being killed is answered by the next."""
		ping = self.spawn("ping", "--count=20000")
		self.assertIn(b"answer", ping.stdout.readline())
		self.kill(5)
		out, err = ping.communicate(timeout=LIMIT)
		self.assertEqual((ping.returncode, err), (0, b""), out[-200:])


if __name__ == "__main__":
	common.main()
