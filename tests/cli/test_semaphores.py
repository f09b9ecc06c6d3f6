#!/usr/bin/python3
"""sem: semaphores from a shell, counted and owned, and permits of commands that are killed."""

import os
import signal
import subprocess

import common
from common import CoordinationCase


class Create(CoordinationCase):
	def test_defaults(self):
		info = self.json("sem", "create", "n")
		self.assertGreater(info.pop("id"), 0)
		self.assertEqual(info, {"name": "n", "kind": "counting", "mode": "0700", "uid": os.getuid(), "gid": os.getgid(),
					"lifetime": "persistent", "attachments": 1, "value": 0, "maximum": 2147483647,
					"waiting": 0})
		self.assertEqual(self.json("sem")["attachments"], 0)

	def test_options(self):
		self.assertEqual(self.ok("sem", "create", "c", "--counting", "--initial=3", "--max=5", "--mode=0110"), "")
		info = self.json("sem", "c")
		self.assertEqual((info["value"], info["maximum"], info["mode"]), (3, 5, "0110"))
		info = self.json("sem", "create", "-o", "-M", "1024", "o")
		self.assertEqual((info["kind"], info["value"], info["maximum"]), ("owned", 1024, 1024))
		self.assertEqual(self.json("sem", "create", "--owned", "mutex")["maximum"], 1)

	def test_refused(self):
		self.ok("sem", "create", "n")
		error = self.json_error(1, "sem", "create", "n")
		self.assertEqual((error["error"], error["command"]), ("exists", "sem create"))
		self.fails(2, "exclude each other", "sem", "create", "-c", "-o", "m")
		self.fails(2, "--initial is for counting", "sem", "create", "-o", "-i", "1", "m")
		self.fails(2, "--initial is 0 to 2", "sem", "create", "--max=2", "-i", "3", "m")
		self.fails(2, "--max is 1 to 1024", "sem", "create", "-o", "-M", "1025", "m")
		self.fails(2, "--max is 1 to 2147483647", "sem", "create", "-M", "0", "m")
		self.fails(2, "--initial is 0 to 2147483647", "sem", "create", "-i", "2147483648", "m")
		self.fails(2, "add --hold", "sem", "create", "--lifetime=session", "m")
		self.fails(2, "none of persistent", "sem", "create", "--lifetime=long", "m")
		self.fails(2, "is no mode", "sem", "create", "--mode=8", "m")
		self.assertEqual(self.ok("sem", "-q"), "n\n")

	def test_hold(self):
		process = self.spawn("sem", "create", "--hold", "n")
		self.assertEqual(process.stdout.readline(), b"holding n\n")
		self.assertEqual((self.json("sem")["lifetime"], self.json("sem")["attachments"]), ("attached", 1))
		process.send_signal(signal.SIGTERM)
		self.assertEqual(process.wait(common.LIMIT), 0)
		self.fails(3, "nothing of that name", "sem", "value", "n")


class Count(CoordinationCase):
	def setUp(self):
		super().setUp()
		self.ok("sem", "create", "--max=5", "n")

	def value(self):
		return int(self.ok("sem", "value", "n"))

	def test_post_and_wait(self):
		self.assertEqual(self.ok("sem", "post", "n"), "")
		self.assertEqual(self.json("sem", "post", "n", "2"), {"name": "n", "value": 3})
		self.assertEqual(self.ok("sem", "value", "n"), "3\n")
		self.assertEqual(self.json("sem", "value", "n"), {"name": "n", "value": 3})
		self.assertEqual(self.ok("sem", "wait", "n"), "")
		self.assertEqual(self.json("sem", "wait", "-n", "n"), {"name": "n"})
		self.ok("sem", "wait", "--timeout=0", "n")
		self.assertEqual(self.value(), 0)

	def test_overflow(self):
		self.ok("sem", "post", "n", "4")
		error = self.json_error(1, "sem", "post", "n", "2")
		self.assertEqual(error["error"], "overflow")
		self.assertEqual(self.value(), 4)  # nothing of it was given
		self.ok("sem", "post", "n")

	def test_nothing_there(self):
		for limit in ("-n", "--nonblock", "--timeout=0.05", "-t0"):
			self.fails(4, "sem wait: n: nobody posted in time", "sem", "wait", limit, "n")
			self.fails(1, "nobody posted in time", "sem", "wait", limit, "n", "--", "false")
		self.fails(9, "nobody posted", "sem", "wait", "-n", "-E", "9", "n")
		self.fails(9, "nobody posted", "sem", "wait", "n", "-n", "--conflict-exit-code=9", "--", "true")
		self.assertEqual(self.json_error(4, "sem", "wait", "-n", "n")["error"], "timed-out")

	def test_woken(self):
		waiters = [self.spawn("sem", "wait", "n") for _ in range(3)]
		self.until("waiting", 3, "sem", "n")
		self.ok("sem", "post", "n", "3")
		for waiter in waiters:
			self.assertEqual(waiter.wait(common.LIMIT), 0)
		self.assertEqual(self.value(), 0)

	def test_waiter_killed(self):
		waiter = self.spawn("sem", "wait", "n")
		self.until("waiting", 1, "sem", "n")
		waiter.kill()
		self.until("waiting", 0, "sem", "n")
		self.ok("sem", "post", "n")
		self.ok("sem", "wait", "-n", "n")

	def test_broker_goes(self):
		waiter = self.spawn("sem", "wait", "n")
		self.until("waiting", 1, "sem", "n")
		self.assertEqual(self.broker.stop(), 0)
		self.assertEqual(waiter.wait(common.LIMIT), 5)
		self.assertIn(b"connection to the broker is gone", waiter.stderr.read())

	def test_command(self):
		self.ok("sem", "post", "n", "3")
		self.assertEqual(self.ok("sem", "wait", "n", "--", "echo", "-n", "ran"), "ran")
		self.fails(6, "^$", "sem", "wait", "n", "sh", "-c", "exit 6")
		self.assertEqual(self.value(), 1)  # nothing comes back
		self.fails(127, "No such file", "sem", "wait", "n", "--", "no-such-command")
		self.assertEqual(self.value(), 1)  # but where nothing ran
		self.fails(125, "nothing of that name", "sem", "wait", "none", "--", "true")
		self.fails(3, "nothing of that name", "sem", "wait", "none")

	def test_bounded_buffer(self):
		"""A producer and a consumer in two shells, and room for two."""
		self.ok("sem", "create", "--initial=2", "room")
		ctl = f"'{common.SHMBCTL}'"
		producer = f"for i in 1 2 3 4 5 6; do {ctl} sem wait room && {ctl} sem post n || exit; done"
		consumer = f"for i in 1 2 3 4 5 6; do {ctl} sem wait n && {ctl} sem post room || exit; done"
		shells = [subprocess.Popen(["sh", "-c", script], env=self.broker.env) for script in (producer, consumer)]
		self.assertEqual([shell.wait(common.LIMIT) for shell in shells], [0, 0])
		self.assertEqual((self.value(), int(self.ok("sem", "value", "room"))), (0, 2))

	def test_is_no_pool(self):
		error = self.json_error(125, "sem", "take", "n", "--", "true")
		self.assertEqual(error["error"], "wrong-kind")
		self.assertIn("sem wait", error["message"])


class Take(CoordinationCase):
	def setUp(self):
		super().setUp()
		self.ok("sem", "create", "--owned", "--max=2", "n")

	def free(self, value):
		return self.until("value", value, "sem", "n")

	def test_each_has_its_own(self):
		first, second = self.hold("sem", "take", "n"), self.hold("sem", "take", "n")
		self.assertEqual({first.permit, second.permit}, {"0", "1"})
		message = r"sem take: n: no permit was free in time, shmbctl: sh \(pid \d+, \S+\) has one"
		for limit in ("-n", "--timeout=0.05"):
			self.fails(1, message, "sem", "take", limit, "n", "--", "true")
		self.fails(9, message, "sem", "take", "-nE9", "n", "--", "true")
		self.fails(0, message, "sem", "take", "-nE0", "n", "--", "false")  # which does not run
		self.finish(second, 3)
		third = self.hold("sem", "take", "-n", "n")
		self.assertEqual(third.permit, second.permit)
		self.assertEqual(self.finish(first) + self.finish(third), "")
		self.free(2)

	def test_ends_as_the_command(self):
		self.ok("sem", "take", "n", "--", "true")
		self.fails(127, "No such file", "sem", "take", "n", "no-such-command")
		self.fails(128 + signal.SIGKILL, "^$", "sem", "take", "n", "--", "sh", "-c", "kill -9 $$")
		self.fails(125, "nothing of that name", "sem", "take", "none", "--", "true")
		self.assertEqual(self.ok("sem", "value", "n"), "2\n")

	def test_killed(self):
		"""shmbctl is, and its command with it: the permit comes back."""
		process = self.hold("sem", "take", "n")
		self.free(1)
		self.kill(process)
		self.free(2)

	def test_command_killed(self):
		process = self.hold("sem", "take", "n")
		os.kill(process.command, signal.SIGKILL)
		self.assertEqual(process.wait(common.LIMIT), 128 + signal.SIGKILL)
		self.assertEqual(self.ok("sem", "value", "n"), "2\n")

	def test_waiter_goes_on(self):
		holders = [self.hold("sem", "take", "n") for _ in range(2)]
		waiter = self.spawn("sem", "take", "n", "--", *self.COMMAND, stdin=subprocess.PIPE)
		self.until("waiting", 1, "sem", "n")
		self.kill(holders[0])
		self.await_held(waiter)
		self.assertEqual(waiter.permit, holders[0].permit)
		self.finish(waiter)
		self.finish(holders[1])

	def test_signals_are_passed_on(self):
		script = 'trap "exit 5" TERM; echo "held $$ $SHMB_PERMIT -"; while :; do :; done'
		process = self.spawn("sem", "take", "n", "--", "sh", "-c", script, stdin=subprocess.PIPE)
		self.await_held(process)
		process.send_signal(signal.SIGTERM)
		self.assertEqual(process.wait(common.LIMIT), 5)

	def test_is_no_counter(self):
		error = self.json_error(1, "sem", "wait", "n")
		self.assertEqual(error["error"], "wrong-kind")
		self.assertIn("sem take", error["message"])
		error = self.json_error(1, "sem", "post", "n")
		self.assertEqual(error["error"], "wrong-kind")

	def test_holders(self):
		process = self.hold("sem", "take", "n")
		info = self.json("sem", "n")
		self.assertEqual((info["value"], info["holder_pid"], info["holder_uid"], info["holder_command"]),
				 (1, process.pid, os.getuid(), "shmbctl: sh"))
		self.assertEqual(self.json("sem", "--holders", "n"),
				 {"pid": process.pid, "uid": os.getuid(), "command": "shmbctl: sh", "exclusive": False, "shared": 0,
				  "permits": 1, "waiting": 0, "condemned": False})
		self.assertRegex(self.ok("sem", "-H", "n"), rf"\n1 permit +0 +{process.pid} +\S+ +shmbctl: sh\n$")
		self.finish(process)
		self.assertEqual(self.ok("sem", "-H", "n"), "")
		self.fails(3, "nothing of that name", "sem", "--holders", "none")
		self.ok("create", "region", "4K")
		self.ok("lock", "--create", "lock")
		for list, name in (("sem", "region"), ("sem", "lock"), ("locks", "n")):
			self.fails(1, "another kind", list, "--holders", name)
		self.ok("locks", "--holders", "region")
		self.fails(3, "`shmbctl sem` list", "rm", "none")


class Listing(CoordinationCase):
	def test_table(self):
		self.ok("sem", "create", "--initial=3", "a")
		self.ok("sem", "create", "--owned", "--max=2", "b/x")
		process = self.hold("sem", "take", "b/x")
		lines = self.ok("sem").splitlines()
		self.assertEqual(lines[0].split(), ["KIND", "VALUE", "MAXIMUM", "WAITING", "PID", "USER", "COMMAND", "NAME"])
		self.assertRegex(lines[1], r"^counting +3 +2147483647 +0 +- +- +- +a$")
		self.assertRegex(lines[2], rf"^owned +1 +2 +0 +{process.pid} +\S+ +shmbctl: sh +b/x$")
		self.finish(process)
		self.assertEqual(self.ok("sem", "--quiet"), "a\nb/x\n")
		self.assertEqual(self.json_lines("sem", "-q", "b"), [{"name": "b/x"}])
		self.assertEqual(self.ok("ls"), "")

	def test_prefix_that_is_a_command(self):
		self.ok("sem", "create", "wait")
		self.assertEqual(self.ok("sem", "-q", "--", "wait"), "wait\n")
		self.assertEqual(self.ok("sem", "value", "wait"), "0\n")

	def test_many(self):
		names = [f"many/{i:03}" for i in range(70)]  # more than two pages
		for name in names:
			self.ok("sem", "create", name)
		self.assertEqual(self.ok("sem", "-q", "many/").split(), names)
		self.assertEqual(self.json("stats")["semaphores"], 70)


if __name__ == "__main__":
	common.main()
