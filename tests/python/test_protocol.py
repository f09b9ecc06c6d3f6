#!/usr/bin/python3
"""A client written from doc/protocol.md alone, with Debian's python3-msgpack and a raw socket: nothing of ours. Atomic
operations come from GCC's libatomic; without it, locks and semaphores are only asked for."""

import array
import ctypes
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

try:
	import msgpack
except ImportError:
	print("skipped: needs python3-msgpack")
	sys.exit(77)

READ, WRITE, LOCK = 4, 2, 1
PUBLISHED, RESIZED, REMOVED = 1, 2, 4


class Refused(Exception):
	"""The broker answered with an error."""


class Client:
	def __init__(self, path):
		self.path = path
		self.connect()
		self.msgid, self.events = 0, []
		self.about = self.hello()
		assert not self.about["resumed"]

	def connect(self):
		self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.socket.settimeout(30)
		self.socket.connect(self.path)

	def hello(self, **more):
		return self.call("hello", version_min=1, version_max=1, client="python", **more)[0]

	def resume(self, again=0):
		"""Goes on with the session over a new connection; the old one is closed when that is granted."""
		old = self.socket
		self.connect()
		about = self.hello(session=self.about["session"], again=again)
		assert about["resumed"] and about["session"] == self.about["session"]
		old.close()

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


# ---- Atomic words in shared memory, and futexes ----

try:
	ATOMIC = ctypes.CDLL("libatomic.so.1")
except OSError:
	ATOMIC = None
SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
FUTEX = {"x86_64": 202, "aarch64": 98}.get(os.uname().machine)
SEQ_CST, WAIT, WAKE, EVERYBODY = 5, 0, 1, 2**31 - 1


class Word:
	"""32 bits of a mapping; every operation is one atomic instruction, sequentially consistent."""

	def __init__(self, memory, offset):
		self.word = ctypes.c_uint32.from_buffer(memory, offset)
		self.address = ctypes.c_void_p(ctypes.addressof(self.word))

	def load(self):
		return getattr(ATOMIC, "__atomic_load_4")(self.address, SEQ_CST) & 0xFFFFFFFF

	def store(self, value):
		getattr(ATOMIC, "__atomic_store_4")(self.address, ctypes.c_uint32(value), SEQ_CST)

	def add(self, value):
		return getattr(ATOMIC, "__atomic_fetch_add_4")(self.address, ctypes.c_uint32(value), SEQ_CST) & 0xFFFFFFFF

	def exchange(self, value):
		return getattr(ATOMIC, "__atomic_exchange_4")(self.address, ctypes.c_uint32(value), SEQ_CST) & 0xFFFFFFFF

	def change(self, old, new):
		expected = ctypes.c_uint32(old)
		swap = getattr(ATOMIC, "__atomic_compare_exchange_4")
		return bool(swap(self.address, ctypes.byref(expected), ctypes.c_uint32(new), SEQ_CST, SEQ_CST) & 1)

	def sleep(self, expected):
		second = (ctypes.c_long * 2)(1, 0)
		SYSCALL(FUTEX, self.address, WAIT, ctypes.c_uint32(expected), second, None, 0)

	def wake(self, n=EVERYBODY):
		return SYSCALL(FUTEX, self.address, WAKE, n, None, None, 0)


def map_writable(fd, size):
	memory = mmap.mmap(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
	os.close(fd)
	return memory


class Lock:
	"""A slot in a lock segment; see "Locks"."""

	SLOT, LOST, DIED, DRAINING, SLEEPERS = 0x7FF, 0x4000000, 0x8000000, 0x10000000, 0x20000000

	def __init__(self, answer, fds):
		self.slot, self.slots = answer["slot"], answer["slots"]
		(fd,) = fds
		self.memory = map_writable(fd, 128 + 64 * self.slots)
		assert struct.unpack_from("=III", self.memory) == (0x6C6D6873, 1, self.slots)
		self.word, self.published = Word(self.memory, 64), Word(self.memory, 72)
		self.readers = [Word(self.memory, 128 + 64 * slot) for slot in range(self.slots)]
		self.solo = [Word(self.memory, 148 + 64 * slot) for slot in range(self.slots)]
		self.own, self.held = self.readers[self.slot - 1], Word(self.memory, 132 + 64 * (self.slot - 1))
		while (seen := self.published.load()) < self.slot:
			self.published.change(seen, self.slot)

	def wait(self):
		seen = self.word.load()
		if seen & self.SLOT and (seen & self.SLEEPERS or self.word.change(seen, seen | self.SLEEPERS)):
			self.word.sleep(seen | self.SLEEPERS)

	def try_shared(self):
		if self.word.load() != 0:
			return False
		self.own.add(1)
		if self.word.load() == 0:
			return True
		self.unlock_shared()
		return False

	def unlock_shared(self):
		if self.own.add(-1) == 1 and self.word.load() & self.DRAINING:
			self.own.wake()

	def lock_shared(self):
		"""False: its owner died, or it is lost."""
		while not self.try_shared():
			if self.word.load() & (self.DIED | self.LOST) and not self.word.load() & self.SLOT:
				return False
			self.wait()
		return True

	def drain(self):
		published = self.published.load()
		for readers in self.readers[:published] + self.solo[:published]:
			while (n := readers.load()) != 0:
				seen = self.word.load()
				if seen & self.DRAINING or self.word.change(seen, seen | self.DRAINING):
					readers.sleep(n)

	def try_claim(self):
		seen = self.word.load()
		return not seen & (self.SLOT | self.LOST) and self.word.change(seen, seen | self.slot)

	def lock(self):
		"""False: held, but the owner before died."""
		while not self.try_claim():
			assert not self.word.load() & self.LOST
			self.wait()
		self.drain()
		self.held.store(1)
		return not self.word.load() & self.DIED

	def forgive(self):
		while (seen := self.word.load()) & self.DIED:
			self.word.change(seen, seen & ~self.DIED)

	def unlock(self, left=0):
		self.held.store(0)
		if self.word.exchange(left) & self.SLEEPERS:
			self.word.wake()


class Semaphore:
	"""A place in an arena; see "Semaphores". Arenas are asked for once. Leaves SLEEPERS set: that costs system calls."""

	SLEEPERS, HOLDER_BITS = 1, 11

	def __init__(self, client, arenas, answer):
		self.slot, self.maximum, self.handle = answer["slot"], answer["maximum"], answer["handle"]
		if answer["arena"] not in arenas:
			about, fds = client.call("semaphore.arena", arena=answer["arena"])
			arenas[answer["arena"]] = map_writable(fds[0], about["bytes"])
		memory, start = arenas[answer["arena"]], 64 * answer["unit"]
		assert struct.unpack_from("=II", memory) == (0x616D6873, 1)
		self.futex, self.asleep = Word(memory, start), Word(memory, start + (4 if answer["kind"] == 1 else 8))
		if answer["kind"] == 2:
			self.hint = Word(memory, start + 4)
			self.permits = [Word(memory, start + 16 + 4 * i) for i in range(self.maximum)]

	def wake(self, n):
		if self.asleep.load() != 0:
			self.futex.wake(n)

	def post(self, n=1):
		while (seen := self.futex.load()) is not None:
			if (seen >> 1) + n > self.maximum:
				return False
			if self.futex.change(seen, seen + 2 * n):
				break
		if seen & self.SLEEPERS:
			self.wake((self.futex.load() >> 1) or 1)
		return True

	def try_wait(self):
		seen = self.futex.load()
		return seen >> 1 != 0 and self.futex.change(seen, seen - 2)

	def wait(self):
		self.asleep.add(1)
		while not self.try_wait():
			seen = self.futex.load()
			if seen == self.SLEEPERS or (seen == 0 and self.futex.change(0, self.SLEEPERS)):
				self.futex.sleep(self.SLEEPERS)
		self.asleep.add(-1)

	def try_take(self):
		"""A permit, as (index, serial)."""
		for index, permit in enumerate(self.permits):
			seen = permit.load()
			serial = ((seen >> self.HOLDER_BITS) + 1) & (2**21 - 1)
			if seen & 0x7FF == 0 and permit.change(seen, serial << self.HOLDER_BITS | self.slot):
				return index, serial
		return None

	def take(self):
		self.asleep.add(1)
		while (permit := self.try_take()) is None:
			seen = self.futex.load()
			if not seen & self.SLEEPERS and not self.futex.change(seen, seen | self.SLEEPERS):
				continue
			if (permit := self.try_take()) is not None:
				break
			self.futex.sleep(seen | self.SLEEPERS)
		self.asleep.add(-1)
		return permit

	def give(self, permit):
		index, serial = permit
		assert self.permits[index].change(serial << self.HOLDER_BITS | self.slot, serial << self.HOLDER_BITS)
		self.hint.store(index)
		if self.futex.load() & self.SLEEPERS:
			self.futex.add(2)
			self.wake(1)

	def adopt(self, permit):
		index, serial = permit
		seen = self.permits[index].load()
		return (seen >> self.HOLDER_BITS == serial and seen & 0x7FF != 0 and
		        self.permits[index].change(seen, serial << self.HOLDER_BITS | self.slot))


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


def ask_for_locks(path):
	client, other = Client(path), Client(path)
	assert client.about["features"] & 2
	region = client.attach("region.create", name="py/r", size=1, slots=2)
	answer, fds = client.call("region.lock", handle=region.handle)
	assert answer["slot"] == 1 and answer["slots"] == 2 and len(fds) == 1
	again, more = client.call("region.lock", handle=region.handle)
	assert again == answer and os.fstat(more[0]).st_ino == os.fstat(fds[0]).st_ino
	os.close(more[0])
	reader = client.attach("region.open", name="py/r", access=READ)
	refused("wrong-mode", "region.lock", client, handle=reader.handle)
	os.close(fds[0])
	lock, fds = client.call("lock.create", name="py/l", slots=1, mode=0o700)
	assert lock["created"] and lock["slot"] == lock["slots"] == 1
	os.close(fds[0])
	refused("no-slots", "lock.open", other, name="py/l")
	refused("exists", "lock.create", other, name="py/r")
	refused("wrong-kind", "lock.open", other, name="py/r")
	refused("wrong-kind", "region.remove", other, name="py/l")
	semaphore, fds = client.call("semaphore.create", name="py/s", kind=1, maximum=3, initial=2)
	assert not fds and semaphore["unit"] >= 1024
	refused("not-found", "semaphore.arena", other, arena=semaphore["arena"])
	refused("invalid-argument", "semaphore.create", other, name="py/t", kind=2, maximum=1025)
	info, _ = other.call("semaphore.stat", name="py/s")
	assert (info["value"], info["maximum"], info["attachments"]) == (2, 3, 1)
	info, _ = other.call("lock.stat", name="py/r")
	assert info["is_region"] and info["state"] == 0 and info["slots_used"] == 1
	assert [lock["name"] for lock in other.call("lock.list", prefix="py/")[0]["locks"]] == ["py/l", "py/r"]
	assert [s["name"] for s in other.call("semaphore.list")[0]["semaphores"]] == ["py/s"]
	assert other.call("holders", name="py/l")[0] == {"holders": []}
	client.call("region.remove", name="py/s", kind=3)
	refused("not-found", "semaphore.stat", other, name="py/s")
	for handle in (semaphore["handle"], lock["handle"], region.handle, reader.handle):
		client.call("region.close", handle=handle)
	refused("not-found", "holders", other, name="py/l")


class Child:
	"""A process of its own with a client of its own, and a pipe each way."""

	def __init__(self, function, path):
		down, up = os.pipe(), os.pipe()
		self.pid = os.fork()
		if self.pid == 0:
			os.close(down[1])
			os.close(up[0])
			status = 1
			try:
				function(Client(path), lambda: os.read(down[0], 1), lambda: os.write(up[1], b"."))
				status = 0
			finally:
				os._exit(status)
		os.close(down[0])
		os.close(up[1])
		self.down, self.up = down[1], up[0]

	def say(self):
		os.write(self.down, b".")

	def hear(self):
		assert os.read(self.up, 1) == b"."

	def end(self, kill=False):
		if kill:
			os.kill(self.pid, signal.SIGKILL)
		_, status = os.waitpid(self.pid, 0)
		os.close(self.down)
		os.close(self.up)
		assert status == (signal.SIGKILL if kill else 0)


def until(condition):
	deadline = time.monotonic() + 20
	while not condition():
		assert time.monotonic() < deadline
		time.sleep(0.001)


def child_locks(client, hear, say):
	lock = Lock(*client.call("lock.open", name="py/lock"))
	say()
	assert lock.lock()  # sleeps until the parent gives it back
	say()
	hear()
	lock.unlock()
	assert lock.lock_shared()
	say()
	hear()
	lock.unlock_shared()
	assert lock.lock()
	say()
	hear()  # and is killed


def use_locks(path):
	client = Client(path)
	lock = Lock(*client.call("lock.create", name="py/lock"))
	assert lock.lock()
	child = Child(child_locks, path)
	child.hear()
	until(lambda: lock.word.load() & Lock.SLEEPERS)
	lock.unlock()
	child.hear()
	assert not lock.try_shared() and not lock.try_claim()
	(holder,) = client.call("holders", name="py/lock")[0]["holders"]
	assert holder["pid"] == child.pid and holder["exclusive"] and holder["command"] == "python"
	child.say()
	child.hear()  # shared now
	assert lock.lock_shared()
	assert client.call("lock.stat", name="py/lock")[0]["readers"] == 2
	lock.unlock_shared()
	child.say()
	child.hear()
	child.end(kill=True)
	assert not lock.lock()  # the owner died
	assert client.call("lock.stat", name="py/lock")[0]["owner_died"]
	lock.forgive()
	lock.unlock()
	assert lock.lock_shared()
	lock.unlock_shared()


def child_takes(client, hear, say):
	arenas = {}
	items = Semaphore(client, arenas, client.call("semaphore.open", name="py/items")[0])
	pool = Semaphore(client, arenas, client.call("semaphore.open", name="py/pool")[0])
	for _ in range(100):
		items.wait()
	say()
	permits = [pool.take() for _ in range(3)]
	say()
	hear()
	pool.give(permits[0])
	say()
	hear()  # and is killed


def use_semaphores(path):
	client, arenas = Client(path), {}
	items = Semaphore(client, arenas, client.call("semaphore.create", name="py/items", kind=1, maximum=100)[0])
	pool = Semaphore(client, arenas, client.call("semaphore.create", name="py/pool", kind=2, maximum=3)[0])
	assert len(arenas) == 1 and not items.try_wait()
	child = Child(child_takes, path)
	for _ in range(50):
		assert items.post(2)
	child.hear()
	child.hear()
	assert pool.try_take() is None
	info = client.call("semaphore.stat", name="py/pool")[0]
	assert info["value"] == 0 and info["holder_pid"] == child.pid
	serial = pool.permits[2].load() >> Semaphore.HOLDER_BITS
	assert pool.adopt((2, serial))
	child.say()
	permit = pool.take()
	child.hear()
	(mine, theirs) = sorted(client.call("holders", name="py/pool")[0]["holders"], key=lambda h: h["pid"] == child.pid)
	assert mine["permits"] == 2 and theirs["permits"] == 1
	child.end(kill=True)
	third = pool.take()  # came back
	assert len({permit[0], 2, third[0]}) == 3
	for held in (permit, (2, serial), third):
		pool.give(held)
	assert client.call("semaphore.stat", name="py/pool")[0]["value"] == 3
	assert items.post(100) and not items.post() and items.try_wait()


def use_beside_the_library(path):
	"""The same lock and semaphores in the hands of a program that uses the C library."""

	def run(*arguments):
		return subprocess.Popen([os.environ["SHMBCTL"], *arguments], env=os.environ | {"SHMB_ADDRESS": path},
		                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

	client, arenas = Client(path), {}
	lock = Lock(*client.call("lock.create", name="py/both"))
	assert lock.lock()
	assert run("lock", "--nonblock", "-E", "42", "py/both", "--", "true").wait(30) == 42
	waiter = run("lock", "py/both", "--", "cat")
	until(lambda: lock.word.load() & Lock.SLEEPERS)
	lock.unlock()
	waiter.stdin.write(b"held")
	waiter.stdin.flush()
	assert waiter.stdout.read(4) == b"held"  # it has the lock, and runs
	assert not lock.try_shared() and not lock.try_claim()
	waiter.stdin.close()
	assert lock.lock()  # sleeps until the other is through
	assert waiter.wait(30) == 0
	lock.unlock()
	reader = run("lock", "--shared", "py/both", "--", "cat")
	until(lambda: any(count.load() for count in lock.readers + lock.solo))
	assert lock.lock_shared()
	lock.unlock_shared()
	reader.stdin.close()
	assert lock.lock()  # drains it
	lock.unlock()
	assert reader.wait(30) == 0

	items = Semaphore(client, arenas, client.call("semaphore.create", name="py/items", kind=1, maximum=9)[0])
	waiter = run("sem", "wait", "py/items")
	until(lambda: items.asleep.load() == 1)
	assert items.post() and waiter.wait(30) == 0 and items.asleep.load() == 0
	poster = run("sem", "post", "py/items")
	items.wait()
	assert poster.wait(30) == 0
	pool = Semaphore(client, arenas, client.call("semaphore.create", name="py/one", kind=2, maximum=1)[0])
	permit = pool.take()
	taker = run("sem", "take", "py/one", "--", "cat")
	until(lambda: pool.asleep.load() == 1)
	pool.give(permit)
	until(lambda: pool.permits[0].load() & 0x7FF not in (0, pool.slot))
	taker.stdin.close()
	pool.give(pool.take())
	assert taker.wait(30) == 0


def go_on(path, replace):
	"""A session outlives the broker: what it had, and what was on its way."""
	client, other = Client(path), Client(path)
	assert client.about["features"] & 4
	region = client.attach("region.create", name="py/kept", size=100)
	region.data[:4] = b"kept"
	lock, fds = client.call("lock.create", name="py/kept-lock")
	os.close(fds[0])
	try:  # it lives, and so does its connection
		other.connect()
		other.hello(session=client.about["session"])
		assert False, "two connections with one session"
	except Refused as refused:
		assert str(refused) == "busy"
	other = Client(path)
	# Done, but the answer is never read; and not even sent.
	lost = client.msgid + 1
	client.send([0, lost, "region.create", {"name": "py/lost", "size": 1}])
	until(lambda: other.call("region.list", prefix="py/lost")[0]["regions"])
	replace()
	client.resume(again=2)
	client.msgid = lost - 1
	about, fds = client.call("region.create", name="py/lost", size=1)
	assert about["created"] and len(fds) == 2
	for fd in fds:
		os.close(fd)
	client.call("lock.create", name="py/unsent")
	assert client.call("lock.stat", name="py/kept-lock")[0]["slots_used"] == 1
	assert client.call("region.stat", handle=region.handle)[0]["attachments"] == 1
	region.watch(REMOVED, 100)
	other.resume()
	again = other.attach("region.open", name="py/kept", access=READ)
	assert again.data[:4] == b"kept"
	other.call("region.remove", name="py/kept")
	assert client.event()[1]["types"] == REMOVED
	assert client.call("region.stat", handle=about["handle"])[0]["attachments"] == 1
	for handle in (about["handle"], region.handle, lock["handle"]):
		client.call("region.close", handle=handle)
	# What is of no session.
	stranger = Client(path)
	stranger.connect()
	try:
		stranger.hello(session=bytes(16))
		assert False, "a session for nothing"
	except Refused as refused:
		assert str(refused) == "no-session"
	assert not stranger.hello()["resumed"]


def main():
	with tempfile.TemporaryDirectory(prefix="shmb-test.") as directory:
		path = directory + "/socket"
		listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		listener.bind(path)
		listener.listen(64)
		# Socket activation: descriptor 3 is the listener, and LISTEN_PID the daemon's own process.
		command = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$SHMBROKERD" --private --runtime-directory="{directory}" 3<&{listener.fileno()}'

		def start():
			return subprocess.Popen(["/bin/bash", "-c", command], pass_fds=[listener.fileno()], env=os.environ)

		def replace():
			nonlocal daemon
			daemon.kill()
			daemon.wait(30)
			daemon = start()

		daemon = start()
		try:
			use(path)
			ask_for_locks(path)
			if ATOMIC and FUTEX:
				use_locks(path)
				use_semaphores(path)
				use_beside_the_library(path)
			else:
				print("no atomic operations from Python here: locks and semaphores were only asked for")
			go_on(path, replace)
		finally:
			daemon.terminate()
			status = daemon.wait(30)
		assert status == 0, f"the daemon ended with {status}"


if __name__ == "__main__":
	main()
