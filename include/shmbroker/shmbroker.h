/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_H
#define SHMBROKER_H

/**
 * libshmbroker - named shared memory, handed out by shmbrokerd
 *
 * A *region* is memory with a name, an owner and a mode. The broker creates it and passes its
 * descriptors; this library maps them. From then on reading, writing and waiting happen in shared
 * memory, without the broker.
 *
 * A *lock* coordinates writers and readers: every region has one, and there are named locks without
 * data. A named *semaphore* counts, or holds permits that come back when their holder dies.
 * Locking, posting and waiting happen in shared memory, too. Regions, locks and semaphores share
 * one namespace.
 *
 * Here stand clients and regions: connecting, making, opening, asking, reading and writing. This
 * header includes <shmbroker/events.h> (publish and wait, watches), <shmbroker/lock.h>,
 * <shmbroker/semaphore.h> and <shmbroker/memory.h> (pages: prefault, pin, advise, what happens when
 * they vanish). <shmbroker/io.h>, which is built on these and has to be included by itself, has
 * windows, cursors, walks, atomics, copies, flush policies and operations in the background.
 *
 * Names: "video/cam0": components of [A-Za-z0-9._-] with '/' between, 1 to SHMB_NAME_MAX bytes in
 * all, no empty, "." or ".." component. A name whose first component is "~UID" belongs to that
 * user: only it (and root) may create there.
 *
 * Results: 0 (or a count) on success, else a negative SHMB_E... of <shmbroker/errors.h>. Outputs
 * come last, are named ret_..., and are written only on success. Any function that takes a handle
 * may return SHMB_EFORKED (called in a forked child; its own client is needed there) and
 * SHMB_ECLOSED (the handle was closed); any that uses what is mapped SHMB_EBUS (memory of the
 * region, lock or semaphore has vanished, <shmbroker/memory.h>); any that asks the broker
 * SHMB_EDISCONNECTED, SHMB_ETIMEDOUT, SHMB_EPROTO and SHMB_ENOMEM. They are not repeated below.
 *
 * Threads: every function may be called from any thread, several at once on one handle, except that
 * ..._free() must be the last call on its handle.
 *
 * Blocking: functions that ask the broker block for at most the client's timeout. Functions on
 * mapped memory never block, except those that take a timeout, shmb_region_read() and
 * shmb_region_write() with SHMB_LOCKED, shmb_region_snapshot() for some milliseconds, and
 * for as long as the system takes shmb_region_flush(), a write that a flush policy flushes after,
 * and what touches, pins, copies, exports and imports.
 *
 * Timeouts are in milliseconds of the monotonic clock: 0 tries and returns, -1 waits without a
 * limit. Waiting spins for at most the client's spin_us, adaptively, and then sleeps.
 */

#include <stddef.h>
#include <stdint.h>

#include <shmbroker/errors.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define SHMB_VERSION_MAJOR 0
#define SHMB_VERSION_MINOR 1
#define SHMB_VERSION_PATCH 0

/** Longest region name, in bytes without the NUL. */
#define SHMB_NAME_MAX 200

struct shmb_client;
struct shmb_region;
struct shmb_lock;
struct shmb_semaphore;

/* ---- Access, mode and other small vocabularies ---- */

/** What an opener asks for, and one octal digit of a region's mode (owner, group, other). Write
 * implies lock. */
enum shmb_access {
	SHMB_LOCK = 1,
	SHMB_WRITE = 2,
	SHMB_READ = 4,
};

/** What a region's memory is made of; see "Backings" in shmbroker(7). */
enum shmb_backing {
	SHMB_BACKING_DEFAULT = 0, /* the broker chooses: shm where it serves one user, else memfd */
	SHMB_BACKING_SHM = 1,
	SHMB_BACKING_MEMFD = 2,
	SHMB_BACKING_FILE = 3,    /* a file (or any memfd) that the creator opened, see "Files" */
	SHMB_BACKING_HUGETLB = 4, /* huge pages of the system's pool; SHMB_ENOMEM where it has too
				     few ("huge pages" as what of the last error), see
				     shmb_region_options.huge for less strict ways */
};

/** When a region goes away by itself. */
enum shmb_lifetime {
	SHMB_ATTACHED = 0,   /* with its last attachment; the default, because leaks are why people
				come here */
	SHMB_SESSION = 1,    /* with the session (connection) that created it */
	SHMB_PERSISTENT = 2, /* when it is removed */
};

/** Bits of shmb_region_options.flags. All of them are about this handle's mapping and can be given
 * to open and create alike, except where told. */
enum shmb_region_flags {
	SHMB_KEEP_FD = 1 << 0, /* keep the data descriptor after mapping, see shmb_region_fd() */
	SHMB_DUMP = 1 << 1,    /* include the mapping in core dumps (default: MADV_DONTDUMP) */
	SHMB_RESERVE = 1 << 2, /* create only, with SHMB_WRITE: allocate the memory now; if there is
				  none, the region is removed again: SHMB_ENOSPC */
	SHMB_PRIVATE = 1 << 3, /* copy on write: what is written stays in this process. SHMB_WRITE
				  then needs read access alone; publishing, resizing and locking
				  are refused, flushing does nothing, and what others write shows or
				  not, page by page, as mmap(2) says of MAP_PRIVATE. Not with
				  SHMB_LOCK. */
	SHMB_POPULATE = 1 << 4,  /* make all pages of the size present now; later ones, see
				    shmb_region_touch() */
	SHMB_PIN = 1 << 5,       /* keep all of them in memory, see shmb_region_pin() */
	SHMB_UNGUARDED = 1 << 6, /* no protection against SIGBUS, see <shmbroker/memory.h> */
	SHMB_STAY_MAPPED =
		1 << 7,           /* closing and freeing leave the mapping; munmap(2) it yourself */
	SHMB_FIXED = 1 << 8,      /* map at options.address or fail: SHMB_EEXIST if anything is
				     mapped there. Such a handle never moves: after somebody has made
				     the region grow beyond its capacity it says SHMB_ENOTSUP. */
	SHMB_EXEC = 1 << 9,       /* may be executed; SHMB_EACCES where the backing forbids it: a
				     mount with noexec (of /dev/shm, or the file's), or a policy
				     such as SELinux or MemoryDenyWriteExecute=. Memfds are on
				     no mount: for them only a policy does. */
	SHMB_NO_ACCESS = 1 << 10, /* map without any access; see shmb_region_protect() */
	SHMB_NO_CACHE = 1 << 11,  /* past the page cache; SHMB_ENOTSUP where there is no such thing
				     (Linux) */
	SHMB_SYNC = 1 << 12,      /* MAP_SYNC: persistent memory alone, else SHMB_ENOTSUP */
};

/** Huge pages for a region's data. */
enum shmb_huge {
	SHMB_HUGE_DEFAULT = 0, /* as the system does by itself */
	SHMB_HUGE_TRY = 1, /* of the pool, else transparent ones, else ordinary pages: never fails
			      for the want of them. shmb_region_huge() tells what it became. */
	SHMB_HUGE_REQUIRE = 2, /* of the pool, else transparent ones for all of it, which are made
				  and take their memory at once; else SHMB_ENOTSUP */
};

/** How to open the file of SHMB_BACKING_FILE; without any of these it has to be there. */
enum shmb_file_flags {
	SHMB_FILE_CREATE = 1 << 0,    /* make it if there is none, with options.file_mode */
	SHMB_FILE_EXCLUSIVE = 1 << 1, /* with SHMB_FILE_CREATE: SHMB_EEXIST if there is one */
	SHMB_FILE_TRUNCATE = 1 << 2,  /* empty it first; not if a region of that name is opened */
};

/** A process, as the broker knows it. */
struct shmb_process {
	uint32_t pid; /* 0: in a PID namespace that the broker cannot see into, or there is none */
	uint32_t uid;
	char command[65]; /* what it called itself when it connected */
};

/* ---- Errors ---- */

/**
 * shmb_strerror() - the sentence for a code, for people
 * @code: a negative SHMB_E... or any other number
 *
 * Return: a static string, never NULL ("no error" for 0, "unknown error" for a number that is not
 * ours). Callable from anywhere, signal handlers included.
 */
const char *shmb_strerror(int code);

/**
 * shmb_error_name() - the name of a code as the wire and --json spell it, such as "not-found"
 * @code: a negative SHMB_E... or any other number
 *
 * Return: a static string, never NULL ("ok" for 0, "unknown" for a number that is not ours).
 */
const char *shmb_error_name(int code);

/** The particulars of the last error of a handle; a field that does not apply is 0. */
struct shmb_error {
	size_t struct_size; /* set by the caller: sizeof(struct shmb_error) */
	int code;           /* 0 if nothing has failed yet */
	uint64_t offset;    /* bytes: where the refused range began */
	uint64_t length;    /* bytes: how long it was */
	uint64_t size;      /* bytes: the region's size at that time */
	uint64_t alignment; /* bytes: what the offset should have been a multiple of */
	uint64_t limit;     /* the limit that was reached, in its own unit */
	char what[64]; /* which limit, argument or step failed; "" if there is nothing to add */
};

/**
 * shmb_client_last_error(), shmb_region_last_error() - what exactly went wrong last on this handle
 * @ret_error: filled up to its struct_size; code is 0 if nothing has failed yet
 *
 * Errors of several threads on one handle overwrite each other. Works on closed handles.
 *
 * Return: 0, or SHMB_EINVAL (struct_size too small).
 */
int shmb_client_last_error(struct shmb_client *client, struct shmb_error *ret_error);
int shmb_region_last_error(struct shmb_region *region, struct shmb_error *ret_error);

/**
 * shmb_error_format() - one sentence with the particulars, such as
 *                       "out of bounds: 8 bytes at offset 4092 of a region of 4096 bytes"
 * @error:  from shmb_..._last_error()
 * @buffer: where to write; always NUL-terminated if @size > 0
 * @size:   bytes at @buffer; 256 holds every sentence
 *
 * Return: length in bytes of the whole sentence without the NUL (as snprintf()).
 */
int shmb_error_format(const struct shmb_error *error, char *buffer, size_t size);

/* ---- Client ---- */

struct shmb_client_options {
	size_t struct_size;
	int timeout_ms;   /* bound of each request, connecting included; default 5000 */
	int spin_us;      /* microseconds that waiting may spin before it sleeps; 0: never, for
			     battery-bound or single-processor machines; -1: measured default */
	const char *name; /* shown by the broker's logs and `shmbctl locks`; NULL: the program's
			     name. Borrowed. */
	int away_ms; /* how long a broker that went away is waited for, milliseconds; 0: give up
			at once; -1: never (default). See "When the broker goes away". */
};

/** Initializer with the defaults: struct shmb_client_options o = SHMB_CLIENT_OPTIONS_INIT; */
#define SHMB_CLIENT_OPTIONS_INIT                                       \
	{                                                              \
		sizeof(struct shmb_client_options), 5000, -1, NULL, -1 \
	}

/*
 * When the broker goes away
 *
 * A broker may crash, be killed, or be restarted by an upgrade. Nothing that a client holds ends
 * with it: mappings, locks, permits and waits go on in shared memory, and the library connects
 * again by itself (inside the calls that need the broker, and inside shmb_client_process(); there
 * is no thread of its own), goes on with the same session, arms watches again and repeats what was
 * not answered. The broker does nothing twice. A call that needs the broker meanwhile waits, for at
 * most the client's timeout, and is otherwise not disturbed; what it asked for may still be done
 * later.
 *
 * SHMB_EDISCONNECTED then means that there is no way back: the broker has forgotten the session (it
 * was stopped for good and its state discarded), it dropped this client for breaking the protocol,
 * or @away_ms have passed. What is mapped stays usable even so.
 */

/**
 * shmb_client_connect() - connect to a broker
 * @address:    "system" (the host's broker), "user" (this user's), a socket path (anything with a
 * '/'), or NULL: the environment's SHMB_ADDRESS (ignored in set-user-ID programs), else "user".
 * There is never a silent fallback from one broker to another, so that two programs cannot miss
 * each other.
 * @options:    NULL for the defaults
 * @ret_client: the connected client; give it back with shmb_client_free()
 *
 * Return: 0, or
 *   SHMB_EINVAL       unknown word in @address, malformed SHMB_ADDRESS, or bad @options
 *   SHMB_ECONNREFUSED no socket there, nobody listens on it, or XDG_RUNTIME_DIR is not set
 *   SHMB_EACCES       the socket's mode, or the broker, refuses this user
 *   SHMB_EVERSION     no common protocol version
 *   SHMB_EDISCONNECTED  it died before it had answered, and so did those that followed it until the
 *                     timeout
 *   SHMB_EDQUOT       this user has too many connections
 *   SHMB_EMFILE, SHMB_ENFILE  out of descriptors, here or in the broker
 */
int shmb_client_connect(const char *address, const struct shmb_client_options *options,
			struct shmb_client **ret_client);

/**
 * shmb_client_free() - let go of a client
 * @client: may be NULL
 *
 * The connection closes when the client and all its regions have been freed, which waits for the
 * broker to have seen it, for at most 100 ms; callbacks no longer run, and requests in flight are
 * cancelled silently. A broker that went away and has come back
 * unnoticed is told, without waiting for it. In a forked child this only frees the child's copy:
 * the parent's session is untouched.
 *
 * Return: NULL.
 */
struct shmb_client *shmb_client_free(struct shmb_client *client);

/**
 * shmb_client_set_timeout() - bound of each later request
 * @timeout_ms: milliseconds, at least 1
 *
 * Return: 0, or SHMB_EINVAL.
 */
int shmb_client_set_timeout(struct shmb_client *client, int timeout_ms);

/**
 * shmb_client_get_fd() - a descriptor that an event loop can watch
 *
 * Poll it for shmb_client_get_events() and call shmb_client_process() when it is ready. The
 * descriptor belongs to the client and stays the same; do not read, write or close it. It is made
 * at the first call.
 *
 * Return: the descriptor, or SHMB_EMFILE, SHMB_ENFILE, SHMB_ENOMEM.
 */
int shmb_client_get_fd(struct shmb_client *client);

/** shmb_client_get_events() - what to poll for, as in poll(2) (POLLIN); ask again after
 * shmb_client_process(). */
int shmb_client_get_events(struct shmb_client *client);

/**
 * shmb_client_process() - take what has arrived and run the callbacks that are due, in this thread
 *
 * Never blocks. Callbacks run without a lock held and may call any function, shmb_region_free() on
 * their region included; no other function runs callbacks. One thread at a time.
 *
 * While the broker is away it looks for it when it is time to; that is no error.
 *
 * Return: the number of callbacks run, SHMB_EBUSY (another thread is in it, or a callback called
 * it), or SHMB_EDISCONNECTED (after the callbacks of cancelled requests have run).
 */
int shmb_client_process(struct shmb_client *client);

/** shmb_client_ping() - one round trip to the broker. Return: 0. */
int shmb_client_ping(struct shmb_client *client);

/** One figure of the broker, such as ("regions", 12). @name is valid during the call. Non-zero ends
 * the walk. */
typedef int (*shmb_stats_fn)(const char *name, uint64_t value, void *userdata);

/**
 * shmb_client_stats() - the broker's live figures
 * @callback: called once for each figure, before this function returns
 *
 * Return: 0, or what @callback returned if that was not 0.
 */
int shmb_client_stats(struct shmb_client *client, shmb_stats_fn callback, void *userdata);

/* ---- Regions: making, opening, letting go ---- */

struct shmb_region_options {
	size_t struct_size;
	unsigned access; /* what the handle may do; default SHMB_READ | SHMB_WRITE. Not for open. */
	unsigned flags;  /* enum shmb_region_flags */
	uint32_t mode;   /* create: octal, digits of enum shmb_access; default 0700 */
	enum shmb_backing backing;   /* create */
	enum shmb_lifetime lifetime; /* create; default SHMB_ATTACHED */
	uint64_t capacity; /* create: bytes the region can grow to without moving; 0: its size */
	uint32_t slots; /* create: attachments that can use its lock at a time, 1 to 1024; 0: 62 */
	enum shmb_huge huge; /* create, which rounds the capacity up to whole huge pages where none
				is given; also open: transparent huge pages for this mapping */
	void *address;       /* with SHMB_FIXED: where to map, a multiple of the page size */
	const char *path;    /* create with SHMB_BACKING_FILE; borrowed; links are followed */
	unsigned file_flags; /* enum shmb_file_flags */
	uint32_t file_mode;  /* permission of a file that is made, as for open(2); default 0600 */
	int fd; /* create with SHMB_BACKING_FILE and no path: adopt this file or memfd; borrowed */
};

/** Initializer with the defaults: struct shmb_region_options o = SHMB_REGION_OPTIONS_INIT; */
#define SHMB_REGION_OPTIONS_INIT                                                                  \
	{                                                                                         \
		sizeof(struct shmb_region_options), SHMB_READ | SHMB_WRITE, 0, 0700,              \
			SHMB_BACKING_DEFAULT, SHMB_ATTACHED, 0, 0, SHMB_HUGE_DEFAULT, NULL, NULL, \
			0, 0600, -1                                                               \
	}

/*
 * Files
 *
 * With SHMB_BACKING_FILE a region's bytes are those of a file, which this process opens with its
 * own rights and passes to the broker: the broker never opens a path that it was told. With
 * options.access SHMB_READ alone the file is opened for reading alone, and nobody can write through
 * the region. Others attach to the region by name, with the region's mode; they need no rights to
 * the file, and get a descriptor of all of it, also of what is not the region's. It has to be a
 * regular file of a local file system (or a memfd), SHMB_ENOTSUP else, and the broker has to allow
 * this user to pass descriptors (`allow-adopt` in shmbroker.conf(5)), SHMB_EACCES else. After a
 * restart of the broker the region is there again where there is a descriptor store.
 *
 * @size 0 takes the file's size; a larger one makes the file longer; a smaller one gives the region
 * the file's beginning, and the file stays as it is. So, to take what is there whole, and to make
 * it only if there is nothing: first with size 0 and no flags, and at SHMB_ENOENT once more with a
 * size and SHMB_FILE_CREATE. Resizing changes the file: a smaller size cuts it off there, whatever
 * it had. The file is left alone when the region goes away.
 *
 * Making a region cuts nothing off its file, but with SHMB_FILE_TRUNCATE. Of several that make the
 * same region with that flag, one empties the file and the others find the region: it is claimed
 * meanwhile by a lock on one byte far behind its end (fcntl(2), F_OFD_SETLK), which conflicts with
 * nothing but locks on the whole file; those are waited for, for at most the client's timeout. A
 * file that was made stays when the rest fails.
 *
 * With SHMB_FILE_CREATE the file's name is on the disk before there is a region (fsync(2) of its
 * directory, which takes as long as the disk takes), so that what anybody flushes later is found
 * again after a power failure. Of a directory that this process may write but not read, that is
 * left to the system.
 *
 * A memfd that is adopted becomes mode 0600, as anybody who may read it could else open it for
 * writing through /proc. For the same reason let a file's own mode refuse those who shall only read
 * the region.
 *
 * Locks of the file itself (fcntl(2) with F_OFD_SETLK, or flock(2)) on shmb_region_fd() are for
 * programs that know the file and not the broker; among those that know it shmb_region_lock() is
 * faster, and survives deaths. They work between any two handles if the process may open the file
 * by itself: then each handle has an open file description of its own, with its own position. A
 * handle of a process that may not shares the description, and so the locks, of all others like it:
 * two of them do not exclude each other. The locks that belong to a process (F_SETLK) are lost with
 * the first descriptor of the file that it closes, those in this library included.
 *
 * A file on disk can be changed, shortened and replaced by whoever may write it, whatever the
 * region's mode says; see shmb_region_check().
 */

/**
 * shmb_region_create() - make a new region and attach to it
 * @client:     connected client
 * @name:       region name, see "Names" above; NUL-terminated. NULL: an anonymous region, which
 * only this process has, until it gives a ticket away (shmb_region_ticket()). Its lifetime is
 * SHMB_ATTACHED.
 * @size:       bytes, at least 1 (0: a file's). The memory reads as zeros; pages are taken when
 * first touched, or now with SHMB_RESERVE.
 * @options:    NULL for the defaults
 * @ret_region: give it back with shmb_region_free()
 *
 * The creator may ask for any access, whatever @options->mode grants to others.
 *
 * Return: 0, or
 *   SHMB_EINVAL   malformed name, zero size (of a file that is empty, too), capacity below size,
 *                 unknown bit or value in @options, or flags that exclude each other
 *   SHMB_EEXIST   the name is taken
 *   SHMB_EACCES   the name belongs to another user, or the broker does not allow that backing here
 *   SHMB_EFBIG    @size or capacity is more than the broker allows for one region
 *   SHMB_EDQUOT   a limit for this user is reached; shmb_client_last_error() says which
 *   SHMB_ENOSPC   no room for the memory
 *   SHMB_ENOTSUP  the broker cannot make that backing
 *   SHMB_EMODE    SHMB_RESERVE or file_flags without SHMB_WRITE; an adopted descriptor that cannot
 *                 be read, or not be written with SHMB_WRITE; a file too short that is only read
 *   SHMB_ENOMEM, SHMB_EMFILE, SHMB_ENFILE, SHMB_ETOOMANYREFS  resources are exhausted, here or in
 *                 the broker
 *   with SHMB_BACKING_FILE, and "file" as what of the last error: what the system says of the file,
 *                 SHMB_ENOENT, SHMB_EACCES, SHMB_EEXIST, SHMB_EIO, ...; SHMB_EBUSY: it is being
 *                 executed, or somebody has a lease of it; SHMB_ETIMEDOUT: somebody has it locked;
 *                 SHMB_EFBIG: RLIMIT_FSIZE
 *   with flags and huge: what stands with them; with SHMB_POPULATE and SHMB_PIN what
 *                 shmb_region_touch() and shmb_region_pin() say. There is no region then.
 */
int shmb_region_create(struct shmb_client *client, const char *name, uint64_t size,
		       const struct shmb_region_options *options, struct shmb_region **ret_region);

/**
 * shmb_region_open() - attach to an existing region
 * @client:     connected client
 * @name:       region name, see "Names" above; NUL-terminated
 * @access:     SHMB_READ, optionally with SHMB_LOCK and SHMB_WRITE; SHMB_WRITE alone gives a handle
 * that refuses to read (who may write may read, as far as the broker and the system are concerned)
 * @options:    NULL for the defaults; only flags, huge and address are used
 * @ret_region: give it back with shmb_region_free()
 *
 * Asks the broker for the descriptors and maps the whole capacity. The mapping outlives a crash of
 * the broker.
 *
 * Return: 0, or
 *   SHMB_EINVAL  malformed @name, an unknown bit in @access or flags, or flags that exclude each
 *                other
 *   SHMB_ENOENT  no region of that name that the caller may know of
 *   SHMB_EACCES  the region's mode refuses this access to the caller; or, whatever the mode and the
 *                user, SHMB_WRITE where the creator opened the file for reading alone
 *   SHMB_EDQUOT  this user has too many attachments, or with SHMB_LOCK slots
 *   SHMB_ESLOTS  with SHMB_LOCK: as many handles as there are slots use the lock already
 *   SHMB_EKIND   the name belongs to a lock or semaphore
 *   SHMB_ENOMEM, SHMB_EMFILE, SHMB_ENFILE, SHMB_ETOOMANYREFS  resources are exhausted, here or in
 *                the broker
 *   with flags and huge: as shmb_region_create()
 */
int shmb_region_open(struct shmb_client *client, const char *name, unsigned access,
		     const struct shmb_region_options *options, struct shmb_region **ret_region);

/**
 * shmb_region_open_or_create() - attach to the region of that name, making it if there is none
 *
 * As shmb_region_open() with @options->access if it exists, which keeps its size and mode; else as
 * shmb_region_create(). Of several that race, exactly one creates. (With SHMB_FILE_EXCLUSIVE one
 * that loses may find the winner's file before its region, and says SHMB_EEXIST.)
 *
 * Return: 1 if it was created, 0 if it was opened, or an error of either.
 */
int shmb_region_open_or_create(struct shmb_client *client, const char *name, uint64_t size,
			       const struct shmb_region_options *options,
			       struct shmb_region **ret_region);

/** Called by shmb_client_process() with 0 (1: created) and the region, or with an error and NULL.
 */
typedef void (*shmb_region_fn)(int status, struct shmb_region *region, void *userdata);

/**
 * shmb_region_create_async(), shmb_region_open_async() - the same without waiting
 *
 * Sends the request and returns; @callback runs exactly once from shmb_client_process(), unless the
 * client is freed first, and then owns the region. A request whose client's timeout passed is
 * answered with SHMB_ETIMEDOUT. With SHMB_RESERVE, shmb_client_process() takes as long as
 * allocating takes (about 0.1 s for a GiB). With SHMB_BACKING_FILE the file is opened, or made, and
 * the broker asked whether descriptors may be passed, before it returns.
 *
 * Return: 0 (@callback will run), or an error (it will not): SHMB_EINVAL, SHMB_EBUSY (too many
 * requests in flight).
 */
int shmb_region_create_async(struct shmb_client *client, const char *name, uint64_t size,
			     const struct shmb_region_options *options, shmb_region_fn callback,
			     void *userdata);
int shmb_region_open_async(struct shmb_client *client, const char *name, unsigned access,
			   const struct shmb_region_options *options, shmb_region_fn callback,
			   void *userdata);

/** What another process can attach with: 32 hexadecimal digits. */
struct shmb_ticket {
	char text[33];
};

/**
 * shmb_region_ticket() - let another process attach to this region, whether it has a name or not
 * @access:     what the ticket is good for: no more than the handle's access
 * @ret_ticket: pass it on by any way that is private: whoever has it can use it, of any user that
 * the broker serves
 *
 * With SHMB_READ alone the descriptors it gives are read-only, whatever this handle's are.
 *
 * It works once, and no longer than this handle is open. Return: 0, or SHMB_EINVAL, SHMB_EMODE
 * (more than the handle's access), SHMB_EDQUOT (too many unused ones).
 */
int shmb_region_ticket(struct shmb_region *region, unsigned access, struct shmb_ticket *ret_ticket);

/**
 * shmb_region_redeem() - attach with a ticket
 * @ticket:  its text
 * @access, @options: as for shmb_region_open()
 *
 * The handle's name is "".
 *
 * Return: as shmb_region_open(); SHMB_ENOENT: it was used already, or is none; SHMB_EACCES: not
 * good for this access; SHMB_EINVAL: not the text of one.
 */
int shmb_region_redeem(struct shmb_client *client, const char *ticket, unsigned access,
		       const struct shmb_region_options *options, struct shmb_region **ret_region);

/**
 * shmb_region_unmap() - let the mapping go and keep the descriptor
 * @ret_fd: the data descriptor, the caller's from now on; CLOEXEC
 *
 * As shmb_region_close(), but refused while views, windows, cursors or walks of the handle are
 * held, so that the memory is really unmapped. Whoever opens one at the same instant either makes
 * it refuse, or gets SHMB_ECLOSED. Needs SHMB_KEEP_FD or a file.
 *
 * Return: 0, or SHMB_EBUSY (held), SHMB_EINVAL (no descriptor was kept).
 */
int shmb_region_unmap(struct shmb_region *region, int *ret_fd);

/**
 * shmb_region_close() - give the attachment back to the broker, keep the handle
 *
 * Never waits for the broker. Later calls on @region return SHMB_ECLOSED. Pointers into the
 * mapping, those of views included, stay valid until shmb_region_free() but no longer show the
 * region: reads give zeros or private bytes, writes go nowhere. So a thread that was just copying
 * does not crash.
 *
 * Return: 0, or SHMB_ECLOSED.
 */
int shmb_region_close(struct shmb_region *region);

/**
 * shmb_region_free() - close if need be, unmap, free
 * @region: may be NULL
 *
 * Return: NULL.
 */
struct shmb_region *shmb_region_free(struct shmb_region *region);

/* ---- Regions: asking and administering ---- */

struct shmb_region_info {
	size_t struct_size;
	char name[SHMB_NAME_MAX + 1];
	uint64_t id; /* unique in the life of the broker's instance; a name made anew has a new one
		      */
	uint64_t size;        /* bytes that may be read and written now */
	uint64_t capacity;    /* bytes it may grow to */
	uint64_t sequence;    /* number of publishes so far */
	uint64_t created;     /* seconds since the epoch */
	uint32_t uid, gid;    /* owner */
	uint32_t mode;        /* octal */
	uint32_t attachments; /* open handles, all processes */
	enum shmb_backing backing;
	enum shmb_lifetime lifetime;
	int removed;     /* no longer has a name, but is still attached somewhere */
	char path[1024]; /* of the file, as its creator opened it, made absolute; "" else, and in
			    lists */
};

/**
 * shmb_region_stat() - what the broker knows of a region, by name
 * @ret_info: filled up to its struct_size, which the caller sets
 *
 * Return: 0, or SHMB_EINVAL, SHMB_ENOENT, SHMB_EKIND (a lock or semaphore).
 */
int shmb_region_stat(struct shmb_client *client, const char *name,
		     struct shmb_region_info *ret_info);

/** shmb_region_info() - the same for an open handle, which works after the name was removed, too.
 */
#if defined(__cplusplus) && defined(__GNUC__) /* a function and a struct of one name */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
int shmb_region_info(struct shmb_region *region, struct shmb_region_info *ret_info);
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/** One region of a list; @info is valid during the call. Non-zero ends the walk. */
typedef int (*shmb_list_fn)(const struct shmb_region_info *info, void *userdata);

/**
 * shmb_region_list() - walk the regions that the caller may know of, ordered by name
 * @prefix:   only names that begin with these bytes; NULL or "" for all
 * @callback: called for each, before this function returns, without a lock held
 *
 * Asks page by page (one bounded request each): a region that is there all the time is seen exactly
 * once, one that comes or goes meanwhile may be missed.
 *
 * Return: 0, what @callback returned if that was not 0, SHMB_EINVAL (malformed prefix), or
 *   SHMB_EBUSY (rare: another listing of this client took the place of this one; begin again).
 */
int shmb_region_list(struct shmb_client *client, const char *prefix, shmb_list_fn callback,
		     void *userdata);

/**
 * shmb_region_resize() - change how many bytes are in use
 * @size: bytes, at least 1
 *
 * Needs SHMB_WRITE. Bytes beyond a smaller size are out of bounds for read and write, read as zero
 * through views, and their memory has gone back to the system when this returns; after growing they
 * read as zero.
 *
 * Within the capacity nobody's mapping moves and nobody's access faults.
 *
 * Beyond the capacity the caller has to hold the region's lock exclusively (SHMB_EDEADLK if it does
 * not). The bytes are copied into a new segment of that capacity, and every handle follows at its
 * next call: ask shmb_region_data() again, and do not keep what it said across calls that may
 * follow. Views stay where they are, and show the old segment until they are released. What others
 * wrote under the lock is kept; what they write without it meanwhile may be lost. The capacity is
 * charged to the region's owner, whoever makes it grow.
 *
 * A file's capacity is always its size: the file is made longer or shorter (without a lock), views
 * stay as they are, and beyond a smaller size they read as zeros (with SHMB_UNGUARDED: SIGBUS). If
 * it cannot be made shorter because of a fault of its disk, the region is smaller all the same.
 * Where it is longer than the region already, growing shows what it has.
 *
 * On an error the size is what it was, for everybody.
 *
 * Return: 0, or
 *   SHMB_EINVAL   zero; or the file has huge pages, of which @size is no multiple
 *   SHMB_EDEADLK  see above
 *   SHMB_EMODE    the handle cannot write, or is private
 *   SHMB_EFBIG    more than the broker or the file system allows
 *   SHMB_EACCES   a memfd that is sealed against it, an append-only file
 *   SHMB_EDQUOT, SHMB_ENOSPC, SHMB_ENOMEM  a limit for the owner, or memory, is exhausted
 *   SHMB_EIO      of a file
 *   SHMB_EBUSY    the broker of several users is giving back memory for this one's earlier resizes;
 *                 try again
 *   SHMB_ENOTSUP  beyond the capacity, with SHMB_FIXED
 *   SHMB_EBUS     memory of the region has vanished, and cannot be copied
 */
int shmb_region_resize(struct shmb_region *region, uint64_t size);

/**
 * shmb_region_remove() - take a region's name away, as unlink(2) does
 *
 * The name is free at once; those attached keep the memory until they let go. Owner or root only.
 *
 * Return: 0, or SHMB_EINVAL, SHMB_ENOENT, SHMB_EACCES, SHMB_EKIND (a lock or semaphore).
 */
int shmb_region_remove(struct shmb_client *client, const char *name);

/**
 * shmb_region_chmod() - change who may open a region from now on; those attached keep what they
 * have
 * @mode: octal, at most 0777, digits of enum shmb_access
 *
 * Owner or root only. Return: 0, or SHMB_EINVAL, SHMB_ENOENT, SHMB_EACCES, SHMB_EKIND (a lock or
 * semaphore: its mode is for good).
 */
int shmb_region_chmod(struct shmb_client *client, const char *name, uint32_t mode);

/**
 * shmb_region_chown() - give a region to another owner or group
 * @uid, @gid: the new ones; (uint32_t)-1 leaves one as it is
 *
 * Root may do anything; the owner may change the group to one of its own. The region's bytes are
 * charged to the new owner. Return: 0, or SHMB_EINVAL, SHMB_ENOENT, SHMB_EACCES, SHMB_EKIND (a lock
 * or semaphore), SHMB_EDQUOT (the new owner's limit).
 */
int shmb_region_chown(struct shmb_client *client, const char *name, uint32_t uid, uint32_t gid);

/* What a handle knows by itself; these ask nobody. On a closed handle, and in a forked
 * child: NULL, 0 or an error. */

/** As opened, "" if it has none; valid until free. */
const char *shmb_region_name(struct shmb_region *region);
/** Start of the mapping; read-only without SHMB_WRITE. See shmb_region_resize() for when it moves.
 */
void *shmb_region_data(struct shmb_region *region);
/** Bytes in use now, never above the capacity. */
uint64_t shmb_region_size(struct shmb_region *region);
/** Bytes mapped. */
uint64_t shmb_region_capacity(struct shmb_region *region);
/** enum shmb_access. */
unsigned shmb_region_access(struct shmb_region *region);
/** What its bytes are made of. */
enum shmb_backing shmb_region_backing(struct shmb_region *region);
/** Path of its file as this process opened it; "" if it has none. */
const char *shmb_region_path(struct shmb_region *region);
/** 1: it can be used; 0: it was closed, or belongs to the parent process. */
int shmb_region_is_valid(struct shmb_region *region);
/** Bytes of the last write through this handle, whoever made it: 0 if it failed as a whole. */
uint64_t shmb_region_last_write(struct shmb_region *region);
/** How the last flush of this handle ended: 0 (well, or there was none), or its error. */
int shmb_region_last_flush(struct shmb_region *region);

/**
 * shmb_region_fd() - lend the data descriptor, if SHMB_KEEP_FD was asked for or it is a file
 *
 * Open for what the handle may do at most. A file's stays the same; for locks on it see "Files".
 * That of memory follows a growth beyond the capacity, as the mapping does: ask again then.
 *
 * Return: a descriptor that belongs to the handle and is closed with it, or SHMB_EINVAL (not kept).
 */
int shmb_region_fd(struct shmb_region *region);

/* ---- Reading and writing ----
 *
 * Positions and lengths are in bytes. Bounds are checked against the size of that moment; a refused
 * call moves no byte and returns SHMB_EBOUNDS with the particulars in shmb_region_last_error(). All
 * writing needs SHMB_WRITE, all reading SHMB_READ, else SHMB_EMODE. None of these functions locks
 * unless SHMB_LOCKED says so: coordinate, or publish and wait. All of them return SHMB_EBUS if
 * memory in the range has vanished (<shmbroker/memory.h>); some of the bytes may have been copied
 * then.
 */

/** Flags of shmb_region_read() and shmb_region_write(). */
enum shmb_copy_flags {
	SHMB_LOCKED = 1 << 0, /* hold the region's lock around the copy: shared to read, exclusive
				 to write. Waits for it for at most the client's timeout. */
};

/**
 * shmb_region_read() - copy @length bytes at @offset to @buffer
 * @length: bytes; 0 is fine
 * @flags:  enum shmb_copy_flags
 *
 * Return: 0, SHMB_EBOUNDS, SHMB_EINVAL (unknown flag), or with SHMB_LOCKED what shmb_region_lock()
 * may return; nothing is copied then.
 */
int shmb_region_read(struct shmb_region *region, uint64_t offset, void *buffer, size_t length,
		     unsigned flags);

/**
 * shmb_region_write() - copy @length bytes from @buffer to @offset
 * @flags: enum shmb_copy_flags
 *
 * Return: 0, SHMB_EBOUNDS, SHMB_EMODE, SHMB_EINVAL (unknown flag), or with SHMB_LOCKED what
 * shmb_region_lock() may return. SHMB_EOWNERDEAD: nothing was written and the lock is not held;
 * lock by hand to put the data right.
 */
int shmb_region_write(struct shmb_region *region, uint64_t offset, const void *buffer,
		      size_t length, unsigned flags);

/* One integer at any offset, aligned or not: in the machine's byte order, or little-endian
 * (..._le). */
int shmb_region_read_u8(struct shmb_region *region, uint64_t offset, uint8_t *ret_value);
int shmb_region_read_u16(struct shmb_region *region, uint64_t offset, uint16_t *ret_value);
int shmb_region_read_u32(struct shmb_region *region, uint64_t offset, uint32_t *ret_value);
int shmb_region_read_u64(struct shmb_region *region, uint64_t offset, uint64_t *ret_value);
int shmb_region_read_u16_le(struct shmb_region *region, uint64_t offset, uint16_t *ret_value);
int shmb_region_read_u32_le(struct shmb_region *region, uint64_t offset, uint32_t *ret_value);
int shmb_region_read_u64_le(struct shmb_region *region, uint64_t offset, uint64_t *ret_value);
int shmb_region_write_u8(struct shmb_region *region, uint64_t offset, uint8_t value);
int shmb_region_write_u16(struct shmb_region *region, uint64_t offset, uint16_t value);
int shmb_region_write_u32(struct shmb_region *region, uint64_t offset, uint32_t value);
int shmb_region_write_u64(struct shmb_region *region, uint64_t offset, uint64_t value);
int shmb_region_write_u16_le(struct shmb_region *region, uint64_t offset, uint16_t value);
int shmb_region_write_u32_le(struct shmb_region *region, uint64_t offset, uint32_t value);
int shmb_region_write_u64_le(struct shmb_region *region, uint64_t offset, uint64_t value);

/**
 * shmb_region_read_string() - copy a NUL-terminated string
 * @buffer: @capacity bytes; NUL-terminated on success
 *
 * Return: the string's length in bytes without the NUL, SHMB_EBOUNDS (the region ends before a
 * NUL), or SHMB_EOVERFLOW (it does not fit into @buffer; the last error's length says how many
 * bytes with the NUL were found, or scanned).
 */
int64_t shmb_region_read_string(struct shmb_region *region, uint64_t offset, char *buffer,
				size_t capacity);

/** shmb_region_write_string() - copy a string with its NUL. Return: 0, SHMB_EBOUNDS or SHMB_EMODE.
 */
int shmb_region_write_string(struct shmb_region *region, uint64_t offset, const char *string);

/** A checked range of the mapping: use it in place, then release it. */
struct shmb_view {
	void *data;
	size_t length;
	struct shmb_region *region;
	void *hold; /* the library's, and the next */
	uint64_t since;
};

/**
 * shmb_region_view() - look at a range in place
 * @offset:    bytes
 * @length:    bytes, at least 1
 * @alignment: what @offset must be a multiple of: 0, 1 or a power of two up to the page size
 * @access:    SHMB_READ or SHMB_READ | SHMB_WRITE
 * @ret_view:  release it with shmb_view_release() before the region is freed
 *
 * While it is held the pointer neither moves nor faults, whatever anybody resizes or removes; after
 * a shrink the bytes beyond the new size read as zero, and what is written there is discarded by
 * the next growth. After a growth beyond the capacity it shows the old segment.
 *
 * Return: 0, or SHMB_EBOUNDS, SHMB_EALIGN, SHMB_EMODE, SHMB_EINVAL, or SHMB_EBUS: it is known
 * already that memory in the range has vanished, and there is no view to release.
 */
int shmb_region_view(struct shmb_region *region, uint64_t offset, size_t length, size_t alignment,
		     unsigned access, struct shmb_view *ret_view);

/**
 * shmb_view_release() - end a view; a zeroed or released one is ignored
 *
 * Return: 0, or SHMB_EBUS: memory in its range has vanished, and zeros were seen in its place.
 */
int shmb_view_release(struct shmb_view *view);

/** Flags of shmb_region_flush(). */
enum shmb_flush_flags {
	SHMB_FLUSH_START = 1 << 0, /* ask for it and do not wait for it to be done */
};

/**
 * shmb_region_flush() - write a range back to what backs it
 * @length: bytes; 0 for everything from @offset on
 * @flags:  enum shmb_flush_flags
 *
 * When it returns, the bytes of a file are on the disk, as after fdatasync(2): they survive
 * whatever happens to the host. (The name of a file that was made otherwise than by
 * SHMB_FILE_CREATE is its maker's business.) Blocks for as long as the disk takes; see
 * shmb_region_flush_async() in <shmbroker/io.h>. Memory (shm, memfd, hugetlb) has nothing behind it
 * and a private mapping is nobody else's, so this succeeds without doing anything there.
 *
 * Any handle may flush, whatever its access. After SHMB_EIO bytes may be lost, as after a failed
 * fsync(2): Linux does not try again. What a handle that can write could not write back, every
 * other one hears of as well, once, at its next flush.
 *
 * Return: 0, or SHMB_EBOUNDS, SHMB_EINVAL, SHMB_EIO, SHMB_ENOSPC, SHMB_EDQUOT, SHMB_EBUS, or
 * SHMB_ECLOSED (by another thread before it was done).
 */
int shmb_region_flush(struct shmb_region *region, uint64_t offset, uint64_t length, unsigned flags);

/* ---- Version ---- */

/** shmb_version() - the library's version at run time, such as "0.1.0". */
const char *shmb_version(void);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#include <shmbroker/events.h>
#include <shmbroker/lock.h>
#include <shmbroker/memory.h>
#include <shmbroker/semaphore.h>

#endif
