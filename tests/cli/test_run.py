#!/usr/bin/python3
"""shmbctl run: a private broker for a command tree, gone without a trace afterwards."""

import json
import os
import pathlib
import pty
import signal
import subprocess
import tempfile

import common
from common import SHMBCTL, objects
from running import TELL, RunCase


class Status(RunCase):
	"""The command's exit status is passed on; failures of run itself have their own."""

	def test_status_is_passed_on(self):
		for status in (0, 1, 7, 255):
			self.check(self.run_("--", "sh", "-c", f"exit {status}"), status, "^$")

	def test_signal_is_128_plus_number(self):
		self.check(self.run_("--", "sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM, "^$")
		self.check(self.run_("--", "sh", "-c", "kill -KILL $$"), 128 + signal.SIGKILL, "^$")

	def test_separator_is_optional(self):
		self.assertEqual(self.check(self.run_("printf", "%s,", "--json", "-h")), "--json,-h,")

	def test_no_command_of_that_name(self):
		self.check(self.run_("--", "/no/such/command"), 127, "run: /no/such/command: No such file")

	def test_command_not_executable(self):
		self.check(self.run_("--", "/dev/null"), 126, "run: /dev/null: Permission denied")

	def test_usage(self):
		self.check(self.run_(), 125, "too few arguments|an argument is missing")
		self.check(self.run_("--no-such-option", "true"), 125, "unknown or ambiguous option --no-such-option")
		self.check(self.run_("-o", "socket=/tmp/x", "true"), 125, "socket is not for this")
		self.check(self.run_("-o", "max-region", "true"), 125, "'max-region' is not KEY=VALUE")

	def test_no_daemon(self):
		env = dict(self.env, SHMBROKERD="/no/such/daemon")
		self.check(self.run_("--", "echo", "ran", env=env), 125, "SHMBROKERD=/no/such/daemon: No such file")

	def test_broker_that_does_not_start(self):
		result = self.run_("-o", "regions-per-user=nonsense", "--", "echo", "ran")
		self.assertEqual(self.check(result, 125, r"the broker ended with exit status [23] before it was ready"), "")

	def test_broker_that_never_gets_ready(self):
		path = pathlib.Path(self.home.name) / "sleeper"
		path.write_text("#!/bin/sh\nexec cat <&4\n")
		path.chmod(0o755)
		with tempfile.TemporaryDirectory() as other:
			env = dict(self.env, SHMBROKERD=str(path), TMPDIR=other)
			result = common.ctl("--timeout=0.2", "run", "--", "echo", "ran", env=env)
			self.assertEqual(self.check(result, 125, "sleeper did not become ready in time"), "")
			self.assertEqual(os.listdir(other), [])
		path.unlink()

	def test_errors_as_json(self):
		result = common.ctl("--json", "run", "--", "/no/such/command", env=self.env)
		error = json.loads(result.stderr)
		self.assertEqual((result.returncode, error["error"], error["command"]), (127, "not-found", "run"))


class Broker(RunCase):
	"""The command finds its broker at once, and nobody else's."""

	def test_command_has_a_broker(self):
		result = self.run_("--", "sh", "-c", '"$CTL" create a 4K && "$CTL" ls -q && "$CTL" --json stat a')
		lines = self.check(result).splitlines()
		self.assertEqual((lines[0], json.loads(lines[1])["size"]), ("a", 4096))

	def test_nothing_is_left(self):
		out = self.python(r"""
ctl("create", "kept", "1M")
subprocess.run([os.environ["CTL"], "write", "kept"], input=b"x" * 1000, check=True)
tell(mode=os.stat(directory).st_mode & 0o777, socket=os.stat(os.environ["SHMB_ADDRESS"]).st_mode & 0o777)
""")
		told = json.loads(self.check(out))
		self.assertEqual((told["mode"], told["socket"]), (0o700, 0o600))
		self.assert_clean(told)

	def test_brokers_nest_and_do_not_meet(self):
		result = self.run_("--", "sh", "-c", '"$CTL" create outer 1 && "$CTL" run -- sh -c \'"$CTL" ls -q; '
				   '"$CTL" create inner 1\' && "$CTL" ls -q')
		self.assertEqual(self.check(result), "outer\n")

	def test_runtime_directory_comes_first(self):
		with tempfile.TemporaryDirectory() as runtime:
			env = dict(self.env, XDG_RUNTIME_DIR=runtime)
			out = self.check(self.run_("--", "sh", "-c", "echo $SHMB_ADDRESS", env=env))
			self.assertTrue(out.startswith(runtime + "/"), out)
			self.assertEqual(os.listdir(runtime), [])

	def test_unusable_directories_are_passed_over(self):
		for bad in ("/no/such/directory", "relative", "/" + "x" * 100):
			env = dict(self.env, XDG_RUNTIME_DIR=bad)
			out = self.check(self.run_("--", "sh", "-c", "echo $SHMB_ADDRESS", env=env))
			self.assertTrue(out.startswith(self.home.name + "/"), out)

	def test_broker_options(self):
		result = self.run_("-o", "max-region=1M", "--", SHMBCTL, "create", "big", "2M")
		self.check(result, 1, "too large")

	def test_log_level(self):
		self.assertEqual(self.run_("--", "true").stderr, b"")
		self.assertNotEqual(self.run_("--log-level=debug", "--", "true").stderr, b"")


class Isolation(RunCase):
	"""Streams, descriptors, terminal and environment are the command's, not the broker's."""

	def test_standard_streams(self):
		result = self.run_("--", "sh", "-c", "cat; echo err >&2", input=b"through")
		self.assertEqual((result.stdout, result.stderr), (b"through", b"err\n"))

	def test_descriptors_reach_the_command_alone(self):
		script = r"""
def targets(who):
	return sorted(os.readlink(f"/proc/{who}/fd/{fd}") for fd in os.listdir(f"/proc/{who}/fd"))
mine = os.readlink("/proc/self/fd/" + sys.argv[1])
tell(mine=mine, broker_fds=targets(pid), keeper_fds=targets(parent), own=sorted(map(int, os.listdir("/proc/self/fd"))))
"""
		reading, writing = os.pipe()
		try:
			result = common.ctl("run", "--", "/usr/bin/python3", "-c", TELL + script, str(writing), env=self.env,
					    pass_fds=[writing])
		finally:
			os.close(reading)
			os.close(writing)
		told = json.loads(self.check(result))
		self.assertTrue(told["mine"].startswith("pipe:"))
		self.assertNotIn(told["mine"], told["broker_fds"])
		self.assertNotIn(told["mine"], told["keeper_fds"])
		# of the listing itself, one more; of shmbctl's own, none
		self.assertEqual([fd for fd in told["own"] if fd > 2 and fd != writing][1:], [])

	def test_environment(self):
		env = dict(self.env, NOTIFY_SOCKET="@nobody", LISTEN_FDS="5", WATCHDOG_USEC="1")
		told = json.loads(self.check(self.python(r"""
theirs = dict(v.split("=", 1) for v in open(f"/proc/{pid}/environ").read().split("\0") if v)
tell(mine=dict(os.environ), theirs=theirs)
""", env=env)))
		for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"):
			self.assertEqual(told["mine"][name], env[name])
		self.assertEqual(told["theirs"]["LISTEN_FDS"], "1")
		self.assertEqual(told["theirs"]["NOTIFY_SOCKET"], told["directory"] + "/notify.sock")
		self.assertNotIn("WATCHDOG_USEC", told["theirs"])

	def test_sessions(self):
		told = json.loads(self.check(self.python(
			"tell(own=os.getsid(0), group=os.getpgrp() == os.getpgid(os.getppid()), theirs=os.getsid(int(pid)))")))
		self.assertNotEqual(told["own"], told["theirs"])
		self.assertTrue(told["group"], "the command is not in shmbctl's process group")

	def test_terminal(self):
		"""^C reaches the command once and the broker not at all; standard input is the terminal."""
		script = 'trap "echo got; c=$((c+1))" INT; echo ready; read line; echo "$line,$c"; "$CTL" ping >/dev/null && exit 5'
		pid, terminal = pty.fork()
		if pid == 0:
			os.execve(SHMBCTL, [SHMBCTL, "run", "--", "/bin/bash", "-c", script], self.env)
		seen = self.read_until(terminal, b"ready")
		os.write(terminal, b"\x03")
		self.read_until(terminal, b"got")
		os.write(terminal, b"typed\n")
		seen = self.read_until(terminal, None)
		_, status = os.waitpid(pid, 0)
		os.close(terminal)
		self.assertIn(b"typed,1", seen)
		self.assertEqual(os.waitstatus_to_exitcode(status), 5, seen)
		self.assert_clean()

	@staticmethod
	def read_until(terminal, wanted):
		seen = b""
		while wanted is None or wanted not in seen:
			try:
				piece = os.read(terminal, 4096)
			except OSError:  # how a terminal says end-of-file
				piece = b""
			if not piece:
				break
			seen += piece
		return seen


class Signals(RunCase):
	"""What is sent to shmbctl alone reaches the command."""

	def test_signals_are_passed_on(self):
		for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
			with self.subTest(number.name):
				process = self.start(f"""
signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])  # a handler could run just before a read() that then blocks
tell()
signal.sigwait([{int(number)}])
sys.exit(9)
""")
				told = self.told(process)
				process.send_signal(number)
				self.assertEqual(process.wait(common.LIMIT), 9)
				self.assert_clean(told)

	def test_command_that_dies_of_it(self):
		process = self.start("tell(); sys.stdin.read()")
		told = self.told(process)
		process.terminate()
		self.assertEqual(process.wait(common.LIMIT), 128 + signal.SIGTERM)
		self.assert_clean(told)

	def test_ignored_signals_stay_ignored(self):
		env = dict(self.env)
		result = subprocess.run(["/bin/sh", "-c", 'trap "" HUP; exec "$CTL" run -- sh -c "kill -HUP \\$\\$; exit 3"'],
					env=env, capture_output=True, timeout=common.LIMIT)
		self.check(result, 3)


class Deaths(RunCase):
	"""Whoever is killed, nothing stays behind.

	stderr is shared by shmbctl, keeper and broker, and the command closes its own: its end-of-file says that all three
	are gone.
	"""

	SCRIPT = r"""
ctl("create", "kept", "1M")
tell()
os.close(2)
sys.exit(len(sys.stdin.read()))
"""

	def all_gone(self, process):
		text = process.stderr.read().decode()
		process.stderr.close()
		return text

	def test_json(self):
		process = subprocess.Popen([SHMBCTL, "--json", "run", "--", "/usr/bin/python3", "-c", TELL + self.SCRIPT],
					   env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
		self.addCleanup(self.finish, process)
		os.kill(self.told(process)["broker"], signal.SIGKILL)
		warning = json.loads(process.stderr.readline())
		self.assertEqual((warning["command"], warning["warning"]), ("run", "disconnected"))
		self.assertIn("started again", warning["message"])

	def test_shmbctl(self):
		process = self.start(self.SCRIPT)
		told = self.told(process)
		self.assertNotEqual(objects(told["instance"]), [])
		process.kill()
		self.assertEqual(self.all_gone(process), "")
		self.assert_clean(told)

	def test_broker(self):
		process = self.start(self.SCRIPT)
		told = self.told(process)
		os.kill(told["broker"], signal.SIGKILL)
		line = process.stderr.readline().decode()  # at once: the command is still running
		self.assertEqual(line, "shmbctl: run: the broker was killed by signal 9 (Killed) and has been started again\n")
		process.stdin.write(b"five5")
		process.stdin.close()
		self.assertEqual(process.wait(common.LIMIT), 5)
		self.assert_clean(told)

	def test_broker_stopped_in_order(self):
		process = self.start(self.SCRIPT)
		told = self.told(process)
		os.kill(told["broker"], signal.SIGTERM)
		self.assertRegex(process.stderr.readline().decode(), "the broker ended with exit status 0 and has been started")
		process.stdin.close()
		self.assertEqual(process.wait(common.LIMIT), 0)
		self.assert_clean(told)

	def test_shmbctl_and_broker(self):
		process = self.start(self.SCRIPT)
		told = self.told(process)
		os.kill(told["broker"], signal.SIGSTOP)  # or it might end by itself before it is killed
		process.kill()
		os.kill(told["broker"], signal.SIGKILL)
		self.all_gone(process)
		self.assert_clean(told)

	def test_keeper(self):
		process = self.start(self.SCRIPT)
		told = self.told(process)
		os.kill(told["keeper"], signal.SIGKILL)
		process.stdin.close()
		self.assertEqual(process.wait(common.LIMIT), 0)
		self.all_gone(process)
		self.assert_clean(told)

	def test_keeper_and_broker(self):
		process = self.start(self.SCRIPT)
		told = self.told(process)
		os.kill(told["keeper"], signal.SIGKILL)
		os.kill(told["broker"], signal.SIGKILL)
		process.stdin.close()
		self.assertEqual(process.wait(common.LIMIT), 0)
		self.all_gone(process)
		self.assert_clean(told)

	def kill(self, pidfd):
		try:
			signal.pidfd_send_signal(pidfd, signal.SIGKILL)
		except ProcessLookupError:
			pass

	def test_keeper_and_a_broker_that_takes_its_time_to_die(self):
		"""What it leaves is removed when it is gone, not before."""
		process = self.start(self.SCRIPT)
		told = self.told(process)
		broker = os.pidfd_open(told["broker"])
		self.addCleanup(os.close, broker)
		self.addCleanup(self.kill, broker)  # whatever comes of it: it would stay stopped
		os.kill(told["broker"], signal.SIGSTOP)  # as if the system had not come to it yet
		os.kill(told["keeper"], signal.SIGKILL)
		process.stdin.close()
		with self.assertRaises(subprocess.TimeoutExpired):
			process.wait(0.5)
		os.kill(told["broker"], signal.SIGKILL)
		self.assertEqual(process.wait(common.LIMIT), 0)
		self.all_gone(process)
		self.assert_clean(told)

	def test_broker_killed_again_and_again_until_the_end(self):
		"""Wherever its death falls, the last one included."""
		for length in range(8):
			process = self.start(f"""
for i in range({length}):
	ctl("create", f"kept{{i}}", "1M", "--backing=" + ("memfd" if i % 2 else "shm"))
tell()
os.close(2)
""")
			told = self.told(process)
			path = pathlib.Path(told["directory"]) / "broker.lock"
			while path.parent.exists():
				try:
					pid = int(path.read_text().split()[0])
					# not the one that removes what the last one left
					if b"--exit-on-eof" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
						os.kill(pid, signal.SIGKILL)
				except (OSError, IndexError):
					pass
			self.assertEqual(process.wait(common.LIMIT), 0)
			self.all_gone(process)
			self.assert_clean(told)

	def test_process_that_outlives_the_command(self):
		"""A daemon of the command keeps its memory and loses its broker; run does not wait for it."""
		process = self.start(r"""
ctl("create", "kept", "1M")
tell()
if os.fork() == 0:
	os.close(1), os.close(2)
	sys.stdin.read()
""")
		told = self.told(process)
		self.assertEqual(process.wait(common.LIMIT), 0)
		self.assert_clean(told)


if __name__ == "__main__":
	common.main()
