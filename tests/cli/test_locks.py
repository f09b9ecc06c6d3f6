#!/usr/bin/python3
"""lock and locks: commands under a lock, who has it, and what is left of a holder that was killed."""

import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

import common
from common import CoordinationCase


class Lock(CoordinationCase):
	def test_ends_as_the_command(self):
		self.ok("lock", "n", "--", "true")
		self.fails(7, "^$", "lock", "n", "--", "sh", "-c", "exit 7")
		self.fails(128 + signal.SIGTERM, "killed by signal 15", "lock", "n", "--", "sh", "-c", "kill -TERM $$")
		self.fails(127, "no-such-command: No such file", "lock", "n", "--", "no-such-command")
		self.fails(126, "/etc/passwd: Permission denied", "lock", "n", "--", "/etc/passwd")
		self.ok("lock", "-n", "n", "--", "true")  # none of them has left it locked

	def test_spellings(self):
		"""Options may stand before the name or after it; what belongs to the command is not ours."""
		for words in (["-n", "n", "--"], ["n", "-n", "--"], ["n", "-n"], ["-n", "n"], ["--json", "n", "--nonblock", "--"],
			      ["-w", "1", "n", "--"], ["n", "-w1"]):
			self.assertEqual(self.ok("lock", *words, "echo", "-n", "--json", "--"), "--json --", words)

	def test_excludes(self):
		holder = self.hold("lock", "n")
		message = rf"lock: n: the lock was not had in time, shmbctl: sh \(pid {holder.pid}, \S+\) has it"
		for limit in ("-n", "--nonblock", "-w0.05", "--wait=0.05", "--timeout=0.05"):
			self.fails(1, message, "lock", limit, "n", "--", "false")
			self.fails(1, message, "lock", limit, "--shared", "n", "--", "false")
		self.fails(9, message, "lock", "-n", "-E", "9", "n", "--", "false")
		self.fails(0, message, "lock", "-n", "--conflict-exit-code=0", "n", "--", "false")  # which does not run
		error = self.json_error(1, "lock", "-n", "n", "--", "false")
		self.assertEqual((error["error"], error["name"], error["command"]), ("timed-out", "n", "lock"))
		self.assertEqual(self.finish(holder), "")
		self.ok("lock", "-n", "n", "--", "true")

	def test_shared(self):
		first, second = self.hold("lock", "-s", "n"), self.hold("lock", "--shared", "n")
		info = self.json("locks")
		self.assertEqual((info["state"], info["readers"], info["slots_used"]), ("shared", 2, 2))
		self.fails(1, "has it", "lock", "-n", "-x", "n", "--", "true")
		self.finish(first)
		self.fails(1, "has it", "lock", "-n", "--exclusive", "n", "--", "true")
		self.finish(second)
		self.assertEqual(self.ok("locks"), "")  # it went with the last of them

	def test_waits(self):
		holder = self.hold("lock", "n")
		waiter = self.spawn("lock", "n", "--", *self.COMMAND)  # whose commands end by themselves: either may be first
		self.until("waiting_exclusive", 1, "locks")
		reader = self.spawn("lock", "-s", "n", "--", *self.COMMAND)
		self.until("waiting_shared", 1, "locks")
		self.finish(holder)
		for process in (waiter, reader):
			self.await_held(process)
			self.assertEqual((process.wait(common.LIMIT), process.owner_died, process.stderr.read()), (0, "-", b""))

	def test_pending(self):
		reader = self.hold("lock", "-s", "n")
		writer = self.spawn("lock", "n", "--", *self.COMMAND, stdin=subprocess.PIPE)
		info = self.until("state", "pending", "locks")
		self.assertEqual((info["readers"], info["holder_pid"]), (1, writer.pid))
		self.fails(1, "has it", "lock", "-n", "-s", "n", "--", "true")  # it bars new readers
		self.finish(reader)
		self.await_held(writer)
		self.finish(writer)

	def test_interrupted_while_waiting(self):
		holder = self.hold("lock", "n")
		waiter = self.spawn("lock", "n", "--", "true")
		self.until("waiting_exclusive", 1, "locks")
		waiter.send_signal(signal.SIGINT)
		self.assertEqual(waiter.wait(common.LIMIT), -signal.SIGINT)
		self.until("waiting_exclusive", 0, "locks")
		self.finish(holder)

	def test_contention(self):
		"""Several shells add to a number in a file, reading and writing it in two steps."""
		with tempfile.TemporaryDirectory() as directory:
			path = pathlib.Path(directory) / "number"
			path.write_text("0\n")
			script = f"""for i in 1 2 3 4 5 6 7 8 9 10; do
				'{common.SHMBCTL}' lock n -- sh -c 'read n <{path}; echo $((n + 1)) >{path}' || exit
			done"""
			shells = [subprocess.Popen(["sh", "-c", script], env=self.broker.env) for _ in range(4)]
			self.assertEqual([shell.wait(common.LIMIT) for shell in shells], [0] * 4)
			self.assertEqual(path.read_text(), "40\n")

	def test_signals_are_passed_on(self):
		script = 'trap "exit 5" TERM HUP INT QUIT USR1 USR2; echo "held $$ - -"; while :; do :; done'
		for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
			process = self.spawn("lock", "n", "--", "sh", "-c", script, stdin=subprocess.PIPE)
			self.await_held(process)
			process.send_signal(number)
			self.assertEqual(process.wait(common.LIMIT), 5, number)
			self.assertEqual(process.stderr.read(), b"")
			process.stdin.close()

	def test_stopped_holder_is_alive(self):
		holder = self.hold("lock", "n")
		holder.send_signal(signal.SIGSTOP)
		self.fails(1, rf"\(pid {holder.pid}, ", "lock", "-w", "0.1", "n", "--", "true")
		self.assertEqual(self.json("locks")["state"], "exclusive")
		holder.send_signal(signal.SIGCONT)
		self.assertEqual(self.finish(holder), "")


class Named(CoordinationCase):
	def test_lifetimes(self):
		self.ok("lock", "n", "--", "true")
		self.assertEqual(self.ok("locks"), "")
		self.ok("lock", "--lifetime=persistent", "--mode=0110", "--slots=3", "n", "--", "true")
		info = self.json("locks", "n")
		self.assertEqual((info["lifetime"], info["mode"], info["slots"], info["attachments"]), ("persistent", "0110", 3, 0))
		self.ok("rm", "n")
		holder = self.hold("lock", "--lifetime=session", "n")
		self.assertEqual(self.json("locks")["lifetime"], "session")
		self.finish(holder)
		self.assertEqual(self.ok("locks"), "")

	def test_existing(self):
		error = self.json_error(125, "lock", "--existing", "n", "--", "echo", "ran")
		self.assertEqual((error["error"], error["name"]), ("not-found", "n"))
		self.assertIn("shmbctl ls", error["hint"])
		self.assertEqual(self.ok("locks"), "")
		self.ok("lock", "--create", "n")
		self.ok("create", "r", "1K")
		for name in ("n", "r"):
			holder = self.hold("lock", "--existing", name)
			self.assertEqual(self.json("locks", name)["state"], "exclusive")
			self.finish(holder)
		self.ok("sem", "create", "s")
		self.assertEqual(self.json_error(125, "lock", "--existing", "s", "true")["error"], "wrong-kind")

	def test_create(self):
		info = self.json("lock", "--create", "--mode=u=l", "n")
		self.assertGreater(info.pop("id"), 0)
		self.assertEqual(info.pop("slots_used"), 1)  # our own, just then
		self.assertEqual(info, {"name": "n", "kind": "lock", "mode": "0100", "uid": os.getuid(), "gid": os.getgid(),
					"lifetime": "persistent", "attachments": 1, "state": "free", "readers": 0,
					"waiting_shared": 0, "waiting_exclusive": 0, "owner_died": False,
					"not_recoverable": False, "slots": 62})
		error = self.json_error(125, "lock", "--create", "n")
		self.assertEqual(error["error"], "exists")
		self.assertIn("shmbctl rm", error["hint"])
		self.assertEqual(self.ok("lock", "--create", "m"), "")

	def test_slots(self):
		self.ok("lock", "--create", "--slots=1", "n")
		holder = self.hold("lock", "-s", "n")
		error = self.json_error(125, "lock", "-s", "n", "--", "true")
		self.assertEqual(error["error"], "no-slots")
		self.finish(holder)
		self.ok("lock", "-s", "n", "--", "true")

	def test_wrong_kind(self):
		self.ok("sem", "create", "s")
		error = self.json_error(125, "lock", "s", "--", "true")
		self.assertEqual((error["error"], error["name"]), ("wrong-kind", "s"))
		self.assertIn("shmbctl sem", error["hint"])
		self.ok("lock", "--create", "n")
		for command in ("stat", "read", "wait"):
			self.assertEqual(self.json_error(1, command, "n")["error"], "wrong-kind", command)
		self.assertEqual(self.json_error(1, "create", "n", "1K")["error"], "exists")

	def test_rm_of_any_kind(self):
		self.ok("lock", "--create", "n")
		self.ok("sem", "create", "s")
		self.ok("create", "r", "1K")
		self.assertEqual([line["removed"] for line in self.json_lines("rm", "n", "s", "r")], [True] * 3)
		self.assertEqual(self.ok("ls") + self.ok("locks") + self.ok("sem"), "")
		self.fails(3, "nothing of that name", "rm", "n")

	def test_refused(self):
		self.assertEqual(self.json_error(125, "lock", "a//b", "--", "true")["error"], "invalid-argument")
		error = self.json_error(125, "lock", "n", "--", "true", env=common.environment(SHMB_ADDRESS="/nowhere/x"))
		self.assertEqual(error["error"], "no-broker")


class RegionLock(CoordinationCase):
	def setUp(self):
		super().setUp()
		self.ok("create", "r", "4K")

	def test_lists_what_was_locked(self):
		self.assertEqual(self.ok("locks"), "")
		self.ok("lock", "r", "--", "true")
		info = self.json("locks")
		self.assertEqual((info["name"], info["kind"], info["state"], info["lifetime"]), ("r", "region", "free", "persistent"))

	def test_excludes(self):
		holder = self.hold("lock", "r")
		self.fails(1, "has it", "lock", "-n", "r", "--", "true")
		self.fails(1, "has it", "lock", "-n", "-s", "r", "--", "true")
		self.assertEqual(self.finish(holder, 3), "")
		self.ok("lock", "-s", "-n", "r", "--", "true")

	def test_write_under_it(self):
		self.assertEqual(self.ok("lock", "r", "--", common.SHMBCTL, "write", "r", input=b"under the lock"), "")
		self.assertEqual(self.ok("lock", "-s", "r", "--", common.SHMBCTL, "read", "-n14", "r"), "under the lock")

	def test_owner_died(self):
		self.kill(self.hold("lock", "r"))
		self.until("owner_died", True, "locks")
		self.fails(125, "owner died", "lock", "-s", "r", "--", "true")
		self.fails(0, "a holder died", "lock", "--recover", "r", "--", "true")
		self.ok("lock", "-s", "r", "--", "true")

	@unittest.skipUnless(os.getuid() == 0, "only root may become somebody else")
	def test_access(self):
		"""Whose access the mode gives no writing locks all the same, but puts nothing right."""
		self.broker.stop()
		self.broker = common.Broker("--system")
		os.chmod(self.broker.directory, 0o755)
		os.chmod(self.broker.address, 0o666)
		self.ok("create", "--mode=0705", "r", "4K")
		for command in (["lock", "r", "--", "true"], ["lock", "-s", "r", "--", "true"]):
			self.ok(*command, user=65534, group=65534, extra_groups=[])
		self.assertEqual(self.json_error(125, "lock", "-R", "r", "--", "true", user=65534, group=65534,
						 extra_groups=[])["error"], "denied")


class Death(CoordinationCase):
	def setUp(self):
		super().setUp()
		self.ok("lock", "--create", "n")

	def died(self):
		return self.json("locks", "n")["owner_died"]

	def dead(self):
		self.kill(self.hold("lock", "n"))
		self.assertEqual(self.until("owner_died", True, "locks", "n")["state"], "free")

	def test_shmbctl_killed(self):
		"""Its command goes with it, and whoever comes next is told, until somebody says that all is right."""
		self.dead()
		self.assertRegex(self.ok("locks"), r"\n +lock|lock +free, owner died")
		error = self.json_error(125, "lock", "-s", "n", "--", "true")
		self.assertEqual(error["error"], "owner-died")
		self.assertIn("--recover", error["hint"])

		process = self.hold("lock", "n")
		self.assertEqual(process.owner_died, "1")
		self.assertIn("lock: n: a holder died", self.finish(process))
		self.assertTrue(self.until("state", "free", "locks", "n")["owner_died"])

		self.fails(4, "a holder died", "lock", "--recover", "n", "--", "sh", "-c", "exit 4")
		self.until("state", "free", "locks", "n")
		self.assertTrue(self.died())

		self.fails(127, "a holder died.*\n.*No such file", "lock", "--recover", "n", "--", "no-such-command")
		self.assertTrue(self.until("state", "free", "locks", "n")["owner_died"])

		self.fails(0, "a holder died", "lock", "--recover", "n", "--", "true")
		self.assertFalse(self.died())
		self.ok("lock", "-s", "-n", "n", "--", "true")
		self.assertEqual(self.hold_and_finish("lock", "-R", "n"), ("-", ""))

	def hold_and_finish(self, *arguments):
		process = self.hold(*arguments)
		return process.owner_died, self.finish(process)

	def test_told_in_json(self):
		self.dead()
		result = self.broker.ctl("--json", "lock", "n", "--", "true")
		self.assertEqual(result.returncode, 0)
		self.assertRegex(result.stderr.decode(),
				 r'^\{"warning":"owner-died","message":"[^"]+","command":"lock","name":"n"\}\n$')

	def test_command_killed(self):
		process = self.hold("lock", "n")
		os.kill(process.command, signal.SIGKILL)
		self.assertEqual(process.wait(common.LIMIT), 128 + signal.SIGKILL)
		self.assertIn(b"killed by signal 9, the lock is left 'owner died'", process.stderr.read())
		self.until("owner_died", True, "locks", "n")

	def test_command_killed_while_recovering(self):
		self.dead()
		process = self.hold("lock", "--recover", "n")
		os.kill(process.command, signal.SIGKILL)
		self.assertEqual(process.wait(common.LIMIT), 128 + signal.SIGKILL)
		self.until("state", "free", "locks", "n")
		self.assertTrue(self.died())

	def test_reader_killed(self):
		self.kill(self.hold("lock", "-s", "n"))
		process = self.hold("lock", "-s", "n")
		os.kill(process.command, signal.SIGKILL)
		self.assertEqual(process.wait(common.LIMIT), 128 + signal.SIGKILL)
		self.ok("lock", "-w", "10", "n", "--", "true")
		self.assertFalse(self.died())

	def test_waiter_goes_on(self):
		holder = self.hold("lock", "n")
		waiter = self.spawn("lock", "n", "--", *self.COMMAND, stdin=subprocess.PIPE)
		self.until("waiting_exclusive", 1, "locks", "n")
		self.kill(holder)
		self.await_held(waiter)
		self.assertEqual(waiter.owner_died, "1")
		self.assertIn("a holder died", self.finish(waiter))

	def test_waiters_killed(self):
		holder = self.hold("lock", "n")
		for kind, key in (("-x", "waiting_exclusive"), ("-s", "waiting_shared")):
			waiter = self.spawn("lock", kind, "n", "--", "true")
			self.until(key, 1, "locks", "n")
			waiter.kill()
			self.until(key, 0, "locks", "n")
		self.assertEqual(self.finish(holder), "")
		self.assertFalse(self.died())

	def test_pending_killed(self):
		reader = self.hold("lock", "-s", "n")
		writer = self.spawn("lock", "n", "--", "true")
		self.until("state", "pending", "locks", "n")
		writer.kill()
		self.until("state", "shared", "locks", "n")
		self.ok("lock", "-s", "-n", "n", "--", "true")
		self.finish(reader)
		self.assertFalse(self.died())

	def test_attached_lock_forgets(self):
		self.kill(self.hold("lock", "m"))
		process = self.spawn("lock", "-w", "10", "m", "--", *self.COMMAND, stdin=subprocess.PIPE)
		self.await_held(process)  # a new one, or the old one that somebody still had open
		self.finish(process)

	def test_not_recoverable(self):
		"""A program unlocks without putting things right; the shell gives the lock another chance."""
		if os.environ.get("SHMB_SANITIZE"):
			self.skipTest("Python does not load a library with sanitizers")
		self.dead()
		program = """
import ctypes, os, sys
library = ctypes.CDLL(os.environ["SHMB_LIBRARY"])
client, lock = ctypes.c_void_p(), ctypes.c_void_p()
assert library.shmb_client_connect(None, None, ctypes.byref(client)) == 0
assert library.shmb_lock_open(client, b"n", ctypes.byref(lock)) == 0
assert library.shmb_lock_acquire(lock, 2, 0) < 0 and library.shmb_lock_release(lock) == 0
"""
		subprocess.run(["/usr/bin/python3", "-c", program], check=True, timeout=common.LIMIT,
			       env=dict(self.broker.env, SHMB_LIBRARY=os.environ["SHMB_LIBRARY"]))
		self.assertTrue(self.json("locks", "n")["not_recoverable"])
		self.assertIn("not recoverable", self.ok("locks", "n"))
		for kind in ("-s", "-x", "-R"):
			error = self.json_error(125, "lock", kind, "n", "--", "true")
			self.assertEqual(error["error"], "not-recoverable", kind)
		self.assertIn("--reset", error["hint"])
		self.fails(0, "a holder died", "lock", "--reset", "--recover", "n", "--", "true")
		self.ok("lock", "-s", "n", "--", "true")


class Listing(CoordinationCase):
	def test_table(self):
		self.ok("lock", "--create", "a")
		self.ok("create", "b", "1K")
		holder = self.hold("lock", "b")
		lines = self.ok("locks").splitlines()
		self.assertEqual(lines[0].split(), ["KIND", "STATE", "WAITING", "SLOTS", "PID", "USER", "COMMAND", "NAME"])
		self.assertRegex(lines[1], r"^lock +free +0 +0/62 +- +- +- +a$")
		self.assertRegex(lines[2], rf"^region +exclusive +0 +1/62 +{holder.pid} +\S+ +shmbctl: sh +b$")
		self.assertEqual(self.ok("locks", "-q"), "a\nb\n")
		self.assertEqual(self.json_lines("locks", "-q", "b"), [{"name": "b"}])
		self.assertEqual(self.ok("locks", "c"), "")
		self.finish(holder)

	def test_json(self):
		holder = self.hold("lock", "n")
		info = self.json("locks")
		self.assertEqual((info["state"], info["holder_pid"], info["holder_uid"], info["holder_command"]),
				 ("exclusive", holder.pid, os.getuid(), "shmbctl: sh"))
		self.assertEqual(list(info), ["name", "id", "kind", "mode", "uid", "gid", "lifetime", "attachments", "state",
					      "readers", "waiting_shared", "waiting_exclusive", "owner_died", "not_recoverable",
					      "slots", "slots_used", "holder_pid", "holder_uid", "holder_command"])
		self.finish(holder)

	def test_holders(self):
		holder = self.hold("lock", "n")
		waiter = self.spawn("lock", "n", "--", *self.COMMAND, stdin=subprocess.PIPE)
		self.until("waiting_exclusive", 1, "locks")
		everyone = {line["pid"]: line for line in self.json_lines("locks", "--holders", "n")}
		self.assertEqual(everyone[holder.pid], {"pid": holder.pid, "uid": os.getuid(), "command": "shmbctl: sh",
							"exclusive": True, "shared": 0, "permits": 0, "waiting": 0,
							"condemned": False})
		self.assertEqual((everyone[waiter.pid]["exclusive"], everyone[waiter.pid]["waiting"]), (False, 1))
		self.assertEqual(set(everyone), {holder.pid, waiter.pid})
		lines = self.ok("locks", "-H", "n").splitlines()
		self.assertEqual(lines[0].split(), ["HOLDS", "WAITING", "PID", "USER", "COMMAND"])
		self.assertEqual(len(lines), 3)
		self.assertTrue(any(line.startswith("exclusive ") for line in lines), lines)
		self.finish(holder)
		self.await_held(waiter)
		self.finish(waiter)
		self.fails(3, "nothing of that name", "locks", "--holders", "n")

	def test_shared_holders(self):
		processes = [self.hold("lock", "-s", "n") for _ in range(2)]
		lines = self.json_lines("locks", "-H", "n")
		self.assertEqual(sorted((line["pid"], line["shared"]) for line in lines), sorted((p.pid, 1) for p in processes))
		self.assertEqual(self.ok("locks", "-H", "n").count("shared 1"), 2)
		for process in processes:
			self.finish(process)

	def test_figures(self):
		self.ok("lock", "--create", "n")
		holder = self.hold("lock", "n")
		figures = self.json("stats")
		self.assertEqual((figures["locks"], figures["slots"], figures["semaphores"]), (1, 1, 0))
		self.kill(holder)
		self.until("owner_died", True, "locks")
		figures = self.json("stats")
		self.assertEqual(figures["slots"], 0)
		self.assertGreaterEqual(figures["repairs_total"], 1)


if __name__ == "__main__":
	common.main()
