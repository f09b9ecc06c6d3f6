#!/usr/bin/python3
"""A client written from doc/protocol.md alone, with Debian's python3-msgpack and a raw socket: nothing of ours."""

import array
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile

try:
	import msgpack
except ImportError:
	print("skipped: needs python3-msgpack")
	sys.exit(77)

READ, WRITE = 4, 2
PUBLISHED, RESIZED, REMOVED = 1, 2, 4


class Refused(Exception):
	"""The broker answered with an error."""


class Client:
	def __init__(self, path):
		self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.socket.settimeout(30)
		self.socket.connect(path)
		self.msgid, self.events = 0, []
		self.about = self.call("hello", version_min=1, version_max=1, client="python")[0]

	def send(self, message):
		self.socket.send(msgpack.packb(message))

	def receive(self):
		data, control, flags, _ = self.socket.recvmsg(32768, socket.CMSG_SPACE(4 * 4), socket.MSG_CMSG_CLOEXEC)
		assert data and not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC)
		fds = array.array("i")
		for level, kind, payload in control:
			assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
			fds.frombytes(payload)
		message = msgpack.unpackb(data)
		body = message[-1] or {}
		assert body.get("fds", 0) == len(fds)
		if message[0] == 2:
			self.events.append((message[1], body))
		return message, list(fds)

	def call(self, method, **params):
		self.msgid += 1
		self.send([0, self.msgid, method, params])
		while True:
			(kind, *rest), fds = self.receive()
			if kind == 1:
				msgid, error, result = rest
				assert msgid == self.msgid
				if error is not None:
					raise Refused(error["code"])
				return result, fds

	def event(self):
		while not self.events:
			self.receive()
		return self.events.pop(0)

	def attach(self, method, **params):
		return Region(self, *self.call(method, **params))


class Region:
	"""Bytes in `data`; publishing needs an atomic add, which this test, being alone with the page, does without."""

	def __init__(self, client, attached, fds):
		self.client, self.handle, self.about = client, attached["handle"], attached
		writable = attached["access"] & WRITE
		protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
		pages = -(-attached["capacity"] // mmap.PAGESIZE) * mmap.PAGESIZE
		self.data = mmap.mmap(fds[0], pages, mmap.MAP_SHARED, protection)
		self.page = mmap.mmap(fds[1], 4096, mmap.MAP_SHARED, protection)
		for fd in fds:
			os.close(fd)
		assert struct.unpack_from("=II", self.page, 0) == (0x626D6873, 1)

	def sequence(self):
		return struct.unpack_from("=Q", self.page, 64)[0]

	def publish(self):
		struct.pack_into("=Q", self.page, 64, self.sequence() + 1)
		if struct.unpack_from("=I", self.page, 76)[0]:  # armed: the broker wants to be told
			struct.pack_into("=I", self.page, 76, 0)
			self.client.send([2, "region.published", {"handle": self.handle}])

	def watch(self, types, size):
		self.client.call("region.watch", handle=self.handle, types=types, sequence=self.sequence(), size=size)


def refused(code, method, client, **params):
	try:
		client.call(method, **params)
	except Refused as error:
		assert str(error) == code, f"{method}: {error}, not {code}"
	else:
		raise AssertionError(f"{method} succeeded, though {code} was expected")


def use(path):
	writer, reader = Client(path), Client(path)
	assert writer.about["version"] == 1 and writer.about["session"] != reader.about["session"]
	assert writer.call("ping") == ({}, [])

	ours = writer.attach("region.create", name="py/frame", size=5000, capacity=10000, mode=0o740, lifetime=2)
	assert ours.about["created"] and ours.about["size"] == 5000 and ours.about["access"] & WRITE
	refused("exists", "region.create", writer, name="py/frame", size=1)
	refused("not-found", "region.open", reader, name="py/none", access=READ)
	refused("invalid-argument", "region.open", reader, name="py//none", access=READ)
	refused("unknown-method", "region.paint", reader)
	theirs = reader.attach("region.open", name="py/frame", access=READ)
	assert theirs.about["id"] == ours.about["id"] and not theirs.about["created"]
	again = reader.attach("region.create", name="py/frame", size=1, open_existing=True)
	assert not again.about["created"] and again.about["size"] == 5000
	reader.call("region.close", handle=again.handle)
	refused("not-found", "region.close", reader, handle=again.handle)

	theirs.watch(PUBLISHED | RESIZED | REMOVED, 5000)
	ours.data[100:105] = b"hello"
	ours.publish()
	name, event = reader.event()
	assert name == "region.event" and event["handle"] == theirs.handle
	assert event["types"] == PUBLISHED and event["sequence"] == theirs.sequence() == 1
	assert theirs.data[100:105] == b"hello"

	theirs.watch(RESIZED, 5000)
	writer.call("region.resize", handle=ours.handle, size=7000)
	assert reader.event()[1]["size"] == 7000 == struct.unpack_from("=Q", theirs.page, 8)[0]
	refused("too-large", "region.resize", writer, handle=ours.handle, size=10001)
	refused("wrong-mode", "region.resize", reader, handle=theirs.handle, size=1)

	info, _ = reader.call("region.stat", name="py/frame")
	assert (info["size"], info["capacity"], info["mode"], info["attachments"]) == (7000, 10000, 0o740, 2)
	writer.call("region.chmod", name="py/frame", mode=0o700)
	assert reader.call("region.stat", handle=theirs.handle)[0]["mode"] == 0o700

	more = [writer.attach("region.create", name=f"py/many/{i:03}", size=1) for i in range(150)]
	names, cursor = [], {}
	while True:
		page, _ = reader.call("region.list", prefix="py/many/", **cursor)
		names += [region["name"] for region in page["regions"]]
		if "cursor" not in page:
			break
		cursor = {"cursor": page["cursor"]}
	assert names == [f"py/many/{i:03}" for i in range(150)] and len(more) == 150

	theirs.watch(REMOVED, 7000)
	writer.call("region.remove", name="py/frame")
	assert reader.event()[1]["types"] == REMOVED
	assert struct.unpack_from("=I", theirs.page, 20)[0] != 0 and theirs.data[100:105] == b"hello"
	assert reader.call("stats")[0]["regions"] == 151

	reader.socket.send(b"\xc1")  # nonsense: a goodbye, then the end
	assert reader.event()[0] == "goodbye" and reader.socket.recv(100) == b""
	writer.call("ping")


def main():
	with tempfile.TemporaryDirectory(prefix="shmb-test.") as directory:
		path = directory + "/socket"
		listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		listener.bind(path)
		listener.listen(64)
		# Socket activation: descriptor 3 is the listener, and LISTEN_PID the daemon's own process.
		command = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$SHMBROKERD" --private --runtime-directory="{directory}" 3<&{listener.fileno()}'
		daemon = subprocess.Popen(["/bin/bash", "-c", command], pass_fds=[listener.fileno()], env=os.environ)
		listener.close()
		try:
			use(path)
		finally:
			daemon.terminate()
			status = daemon.wait(30)
		assert status == 0, f"the daemon ended with {status}"


if __name__ == "__main__":
	main()
