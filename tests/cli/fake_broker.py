#!/usr/bin/python3
"""A broker that does what a test tells it, to see its keeper from the inside.

It finds the test through FAKE_CONTROL, says what it was given, and then takes orders: one JSON object each, answered by
one. It ends when its lifeline is cut. One that is to remove what a dead one left says so, and has done it.
"""

import json
import os
import select
import socket
import sys


class Broker:
	def __init__(self, control):
		self.control = control
		self.env = {key: os.environ[key] for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "FDSTORE",
							     "NOTIFY_SOCKET") if key in os.environ}
		self.lifeline = next((int(a.split("=")[1]) for a in sys.argv if a.startswith("--exit-on-eof=")), None)
		self.fds = list(range(3, 3 + int(self.env.get("LISTEN_FDS", 0))))
		self.names = self.env.get("LISTEN_FDNAMES", "").split(":")
		self.listener = None
		for fd in self.fds:
			if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
				self.listener = socket.socket(fileno=fd)
		if "NOTIFY_SOCKET" in self.env:
			self.notifier = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
			self.notifier.connect(self.env["NOTIFY_SOCKET"])

	def tell(self):
		return {
			"pid": os.getpid(), "keeper": os.getppid(), "env": self.env, "arguments": sys.argv[1:],
			"soft": os.sysconf("SC_OPEN_MAX"),
			# without those that Python itself has opened since, and the listing
			"open": sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd <= (self.lifeline or 0)),
			"listening": self.listener is not None and
			self.listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
		}

	def stored(self):
		"""Name and inode of each descriptor that came from the store."""
		return [[name, os.fstat(fd).st_ino] for name, fd in zip(self.names, self.fds)
			if self.listener is None or fd != self.listener.fileno()]

	def read(self, name):
		return os.pread(self.fds[self.names.index(name)], 100, 0).decode()

	def notify(self, text, memories=(), times=1):
		"""Each of the memories is the contents of a memfd that goes with the message. Return: their inodes."""
		fds = [os.memfd_create("fake") for _ in memories]
		for fd, contents in zip(fds, memories):
			os.write(fd, contents.encode())
		for _ in range(times):
			socket.send_fds(self.notifier, [text.encode()], fds)
		inodes = [os.fstat(fd).st_ino for fd in fds]
		for fd in fds:
			os.close(fd)
		return inodes

	def fill(self, count):
		"""Gives so many away, two at a time, and each pair under a name of its own."""
		fd = os.memfd_create("fake")
		for i in range(0, count, 2):
			socket.send_fds(self.notifier, [b"FDSTORE=1\nFDNAME=%x" % (0x1000 + i)], [fd] * min(2, count - i))
		os.close(fd)

	def large(self, name, size):
		"""Gives memory away that takes a while to give back."""
		fd = os.memfd_create("fake")
		os.posix_fallocate(fd, 0, size)
		socket.send_fds(self.notifier, [f"FDSTORE=1\nFDNAME={name}".encode()], [fd])
		os.close(fd)

	def barrier(self):
		"""Returns when all that was said before has been taken."""
		reading, writing = os.pipe()
		socket.send_fds(self.notifier, [b"BARRIER=1"], [writing])
		os.close(writing)
		poll = select.poll()
		poll.register(reading, 0)
		poll.poll()
		os.close(reading)

	def serve(self):
		"""Takes one client, and tells what it says."""
		client, _ = self.listener.accept()
		with client:
			return client.recv(100).decode()

	def exit(self, status):
		os._exit(status)

	def run(self):
		poll = select.poll()
		poll.register(self.control, select.POLLIN)
		poll.register(self.lifeline, 0)
		while True:
			ready = dict(poll.poll())
			if self.lifeline in ready:
				return
			order = json.loads(self.control.recv(65536) or b'["exit", {"status": 0}]')
			self.control.send(json.dumps(getattr(self, order[0])(**order[1])).encode())


def main():
	control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
	control.connect(os.environ["FAKE_CONTROL"])
	broker = Broker(control)
	# the environment's own names are told by stored(): they can be long
	told = broker.tell()
	told["env"].pop("LISTEN_FDNAMES", None)
	control.send(json.dumps(told).encode())
	if "--purge" not in sys.argv:
		broker.run()


if __name__ == "__main__":
	main()
