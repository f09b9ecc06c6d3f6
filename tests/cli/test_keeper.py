#!/usr/bin/python3
"""The keeper of shmbctl run, seen by its broker: starting it again, and keeping descriptors for it."""

import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import common
from common import SHMBCTL
from running import RunCase

FAKE = pathlib.Path(__file__).with_name("fake_broker.py")
TRIES = 10  # of the keeper, in a row


class Fake:
	"""One life of the broker, from outside."""

	def __init__(self, control):
		self.control = control
		control.settimeout(common.LIMIT)
		self.told = json.loads(control.recv(1 << 20))
		self.pid = self.told["pid"]

	def do(self, order, **more):
		self.order(order, **more)
		return json.loads(self.control.recv(1 << 22))

	def order(self, order, **more):
		self.control.send(json.dumps([order, more]).encode())

	def ready(self):
		self.do("notify", text="READY=1\nSTATUS=well")

	def kill(self, number=signal.SIGKILL):
		os.kill(self.pid, number)

	def close(self):
		self.control.close()


class KeeperCase(RunCase):
	"""The broker is a fake one, the command waits for its standard input's end and ends with 7."""

	options = ()
	limit = None

	def setUp(self):
		super().setUp()
		directory = tempfile.mkdtemp(prefix="shmb-fake.")
		self.addCleanup(shutil.rmtree, directory)
		self.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.addCleanup(self.control.close)
		self.control.bind(os.path.join(directory, "control"))
		self.control.listen(64)
		self.control.settimeout(common.LIMIT)
		env = dict(self.env, SHMBROKERD=str(FAKE), FAKE_CONTROL=os.path.join(directory, "control"))
		self.process = subprocess.Popen(
			[SHMBCTL, *self.options, "run", "--", "sh", "-c", "echo $$; cat >/dev/null; exit 7"], env=env,
			stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=self.restrict)
		self.addCleanup(self.finish, self.process)
		self.broker = self.next()

	def restrict(self):
		if self.limit is not None:
			resource.setrlimit(resource.RLIMIT_NOFILE, self.limit)

	def next(self):
		"""The next broker that is started."""
		control, _ = self.control.accept()
		fake = Fake(control)
		self.addCleanup(fake.close)
		return fake

	def serve(self):
		"""The broker gets ready, and the command runs."""
		self.broker.ready()
		self.command = int(self.process.stdout.readline())

	def restart(self, number=signal.SIGKILL):
		"""Kills the broker. It is there again afterwards, and ready."""
		self.broker.kill(number)
		self.broker = self.next()
		self.broker.ready()
		self.assert_told(rf"^shmbctl: run: the broker was killed by signal {int(number)} \(.*\) "
				 "and has been started again$")

	def assert_told(self, pattern):
		self.assertRegex(self.process.stderr.readline().decode(), pattern)

	def end(self, status=7, stderr="^$"):
		"""The command ends, and with it everything."""
		self.process.stdin.close()
		self.assertEqual(self.process.wait(common.LIMIT), status)
		self.assertRegex(self.process.stderr.read().decode(), stderr)
		self.assert_clean()

	def store(self, name, *memories):
		return [[name, inode] for inode in self.broker.do("notify", text=f"FDSTORE=1\nFDNAME={name}", memories=memories)]

	def keeper_fds(self):
		self.broker.do("barrier")
		return len(os.listdir(f"/proc/{self.broker.told['keeper']}/fd"))


class Start(KeeperCase):
	"""What a broker is given."""

	def test_first(self):
		told = self.broker.told
		self.assertEqual(told["env"]["LISTEN_FDS"], "1")
		self.assertEqual(told["env"]["LISTEN_PID"], str(self.broker.pid))
		self.assertEqual(told["open"], [0, 1, 2, 3, 4])
		self.assertEqual(self.broker.do("stored"), [])
		self.assertTrue(told["listening"])
		self.assertIn("--on-stop=keep", told["arguments"])
		room = int(told["env"]["FDSTORE"])
		self.assertLessEqual(room, 24576)
		self.assertLess(room, resource.getrlimit(resource.RLIMIT_NOFILE)[1] / 2)
		self.serve()
		self.end()

	def test_again_is_the_same(self):
		first = self.broker.told
		self.serve()
		self.restart()
		for key in ("keeper", "arguments", "open", "listening", "soft"):
			self.assertEqual(self.broker.told[key], first[key])
		self.assertEqual(self.broker.told["env"]["LISTEN_PID"], str(self.broker.pid))
		self.end()

	def test_clients_wait_in_the_socket(self):
		"""A client that connects while no broker runs is served by the next."""
		self.serve()
		path = next(pathlib.Path(self.home.name).glob("*/broker.sock"))
		self.broker.kill()
		with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
			client.connect(str(path))
			client.send(b"hello")
			self.broker = self.next()
			self.broker.ready()
			self.assertEqual(self.broker.do("serve"), "hello")
		self.end(stderr="started again")


class Restart(KeeperCase):
	"""When a broker is started again, and when not."""

	def test_kinds_of_ends(self):
		self.serve()
		self.restart(signal.SIGSEGV)
		self.restart(signal.SIGTERM)
		for status in (0, 1, 6, 77):
			self.broker.order("exit", status=status)
			self.broker = self.next()
			self.broker.ready()
			self.assert_told(f"the broker ended with exit status {status} and has been started again")
		self.end()

	def test_many_in_a_row(self):
		self.serve()
		for _ in range(12):
			self.restart()
		self.end()

	def test_end_while_none_runs(self):
		"""The command ends between two brokers."""
		self.serve()
		for _ in range(8):  # then the pause before the next is long
			self.restart()
		self.broker.kill()
		self.process.stdin.close()
		self.await_purge()
		self.end(stderr="what it left is being removed")

	def test_killed_before_it_is_ready(self):
		self.serve()
		self.broker.kill()
		self.broker = self.next()
		self.broker.kill()  # before it is ready: not a word
		self.broker = self.next()
		self.broker.ready()
		self.assert_told("killed by signal 9 .* and has been started again")
		self.end()

	def test_never_ready_again(self):
		self.serve()
		self.broker.order("exit", status=1)
		for _ in range(TRIES):
			self.broker = self.next()
			self.broker.order("exit", status=1)
		self.assert_told(f"ended with exit status 1 and could not be started again, in {TRIES} tries")
		self.assert_told("while the command was running; what it left is being removed")
		self.sweep()
		self.assertIsNone(self.process.poll())
		self.end()

	def await_purge(self):
		while "--purge" not in self.next().told["arguments"]:
			pass  # one that was started meanwhile

	def sweep(self):
		"""What was left is removed, and nobody listens any more."""
		self.assertIn("--purge", self.next().told["arguments"])
		path = next(pathlib.Path(self.home.name).glob("*/broker.sock"))
		with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
			self.assertRaises(ConnectionRefusedError, client.connect, str(path))

	def test_refusals_are_final(self):
		self.serve()
		self.broker.order("exit", status=5)
		self.assert_told("ended with exit status 5 while the command was running; what it left is being removed")
		self.sweep()
		self.end()

	def test_refusal_after_a_crash_is_final(self):
		self.serve()
		self.broker.kill()
		self.broker = self.next()
		self.broker.order("exit", status=3)
		self.assert_told("ended with exit status 3 while the command was running; what it left is being removed")
		self.sweep()
		self.end()

	def test_first_start_is_tried_once(self):
		self.broker.kill()
		self.assert_told("the broker was killed by signal 9 .* before it was ready")
		self.end(125)

	def test_broker_killed_at_the_very_end(self):
		self.serve()
		os.kill(self.broker.pid, signal.SIGSTOP)  # or it might end by itself
		self.process.stdin.close()
		while pathlib.Path(f"/proc/{self.command}").exists():
			pass
		self.broker.kill()
		self.await_purge()
		self.end(stderr="killed by signal 9")


class Slow(KeeperCase):
	"""A broker that hangs before it is ready is killed, and another one tried."""

	options = ("--timeout=8",)  # which the first start must keep, too, however slow the machine

	def test_hangs(self):
		self.serve()
		self.broker.kill()
		hanging = self.next()
		self.broker = self.next()  # it needs a moment, but a slow machine may need longer
		while True:
			try:
				self.broker.ready()
				break
			except OSError:
				self.broker = self.next()
		self.assertRaises(ProcessLookupError, os.kill, hanging.pid, 0)
		self.assert_told("killed by signal 9 .* and has been started again")
		self.end()


class Store(KeeperCase):
	"""Descriptors survive the broker."""

	def test_they_come_back(self):
		self.serve()
		kept = self.store("a1", "one", "two") + self.store("b", "three") + self.store("ffff", "four")
		self.broker.do("barrier")
		for _ in range(3):
			self.restart()
			self.assertEqual(sorted(self.broker.do("stored")), sorted(kept))
			self.assertEqual(self.broker.told["env"]["LISTEN_FDS"], "5")
			self.assertEqual(self.broker.told["open"], list(range(9)))
			self.assertEqual([self.broker.do("read", name=name) for name in ("b", "ffff")], ["three", "four"])
		self.end()

	def test_what_was_said_last_counts(self):
		"""Nobody waited for an answer: what a broker said just before it was killed is known all the same."""
		self.serve()
		kept = []
		for i in range(9):  # that many at least fit into the queue
			kept += self.store(f"{i:x}", str(i))
		self.restart()
		self.assertEqual(sorted(self.broker.do("stored")), sorted(kept))
		self.end()

	def test_removed_ones_are_closed(self):
		self.serve()
		before = self.keeper_fds()
		self.store("a", "one", "two"), self.store("b", "three"), self.store("a", "four")
		self.assertEqual(self.keeper_fds(), before + 4)
		self.broker.do("notify", text="FDSTOREREMOVE=1\nFDNAME=a")
		self.assertEqual(self.keeper_fds(), before + 1)
		self.restart()
		self.assertEqual([name for name, _ in self.broker.do("stored")], ["b"])
		self.assertEqual(self.keeper_fds(), before + 1)
		self.broker.do("notify", text="FDNAME=b\nFDSTOREREMOVE=1")
		self.broker.do("notify", text="FDSTOREREMOVE=1\nFDNAME=nosuch")
		self.assertEqual(self.keeper_fds(), before)
		self.end()

	def test_large_memory_is_given_back_aside(self):
		self.serve()
		before = self.keeper_fds()
		self.store("a", "x" * (20 << 10))
		self.broker.do("notify", text="FDSTORE=1\nFDNAME=b", memories=["y" * 5000] * 2)
		self.broker.do("large", name="c", size=32 << 20)
		self.broker.do("notify", text="FDSTOREREMOVE=1\nFDNAME=c")
		while self.keeper_fds() != before + 3:
			pass
		self.end()

	def test_other_messages(self):
		self.serve()
		before = self.keeper_fds()
		for text in ("", "\n\n", "WATCHDOG=1", "STATUS=FDSTORE=1", "FDNAME=a", "\0FDSTORE=1\nFDNAME=a", "x" * 4000,
			     "FDSTORE=0\nFDNAME=a", "RELOADING=1\nMONOTONIC_USEC=1", "MAINPID=1", "STOPPING=1",
			     "FDSTORE=1", "FDSTORE=1\nFDNAME=", "FDSTORE=1\nFDNAME=10000", "FDSTORE=1\nFDNAME=A",
			     "FDSTORE=1\nFDNAME=a:b", "FDSTORE=1\nFDNAME=../b", "FDSTORE=1\nFDNAME=a\nFDSTOREREMOVE=1",
			     "FDSTORE=1\nFDNAME=a\n" + "x" * 8000):
			with self.subTest(text[:40]):
				self.broker.do("notify", text=text, memories=["1", "2"])
				self.assertEqual(self.keeper_fds(), before)
		self.broker.do("notify", text="FDSTORE=1\nFDNAME=a", memories=["1", "2", "3"])
		self.broker.do("notify", text="FDSTORE=1\nFDNAME=a", memories=["1"] * 200)
		self.broker.do("notify", text="FDSTORE=1\nFDNAME=a")
		self.assertEqual(self.keeper_fds(), before)
		self.restart()
		self.assertEqual(self.broker.do("stored"), [])
		self.end()


class Strangers(KeeperCase):
	"""Only the broker is listened to."""

	def connect(self):
		stranger = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		self.addCleanup(stranger.close)
		stranger.connect(self.broker.told["env"]["NOTIFY_SOCKET"])
		return stranger

	def test_not_ready_for_others(self):
		self.connect().send(b"READY=1")
		self.broker.do("barrier")
		self.broker.order("exit", status=1)
		self.assert_told("the broker ended with exit status 1 before it was ready")
		self.end(125)

	def test_their_descriptors_are_dropped(self):
		self.serve()
		before = self.keeper_fds()
		kept = self.store("a", "one")
		stranger = self.connect()
		with open("/dev/null", "rb") as null:
			for n in (0, 1, 2, 100):
				socket.send_fds(stranger, [b"FDSTORE=1\nFDNAME=a"], [null.fileno()] * n)
		stranger.send(b"FDSTOREREMOVE=1\nFDNAME=a")
		self.assertEqual(self.keeper_fds(), before + 1)
		self.restart()
		self.assertEqual(self.broker.do("stored"), kept)
		self.end()

	def test_flood(self):
		"""The broker is heard, and heard of, through it; and nothing grows."""
		self.serve()
		before = self.keeper_fds()
		over = threading.Event()

		def send():
			with self.connect() as stranger, open("/dev/null", "rb") as null:
				while not over.is_set():
					try:
						socket.send_fds(stranger, [b"FDSTORE=1\nFDNAME=a" + b"x" * 10000], [null.fileno()],
								socket.MSG_DONTWAIT)
					except OSError:
						pass

		threads = [threading.Thread(target=send) for _ in range(2)]
		for thread in threads:
			thread.start()
		try:
			for i in range(20):
				self.store(f"{i:x}", str(i))
			self.assertEqual(self.keeper_fds(), before + 20)
			self.restart()
			self.assertEqual(len(self.broker.do("stored")), 20)
		finally:
			over.set()
			for thread in threads:
				thread.join()
		self.assertEqual(self.keeper_fds(), before + 20)
		self.end()


class FewDescriptors(KeeperCase):
	"""With few descriptors allowed the store is small."""

	limit = (300, 400)

	def test_bound(self):
		room = int(self.broker.told["env"]["FDSTORE"])
		self.assertTrue(0 < room < 200, room)
		self.serve()
		before = self.keeper_fds()
		self.broker.do("fill", count=room - 1)
		self.assertEqual(self.keeper_fds(), before + room - 1)
		self.broker.do("fill", count=100)
		self.assertEqual(self.keeper_fds(), before + room)
		self.restart()
		self.assertEqual(len(self.broker.do("stored")), room)
		self.end()


class NoDescriptors(KeeperCase):
	"""With next to none allowed there is no store."""

	limit = (40, 40)

	def test_none(self):
		self.assertNotIn("FDSTORE", self.broker.told["env"])
		self.serve()
		before = self.keeper_fds()
		self.store("a", "one")
		self.assertEqual(self.keeper_fds(), before)
		self.restart()
		self.assertEqual(self.broker.do("stored"), [])
		self.end()


class ManyDescriptors(KeeperCase):
	"""As many as ever may be kept."""

	def restrict(self):
		try:
			resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 65536))
		except ValueError:  # not for us: then fewer
			pass

	def test_full(self):
		room = int(self.broker.told["env"]["FDSTORE"])
		self.serve()
		self.broker.do("fill", count=room)
		self.broker.do("barrier")
		self.restart()
		names = [name for name, _ in self.broker.do("stored")]
		self.assertEqual(len(names), room)
		self.assertEqual(len(set(names)), (room + 1) // 2)
		self.end()


if __name__ == "__main__":
	common.main()
