/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_ERRORS_H
#define SHMBROKER_ERRORS_H

#include <errno.h>

/*
 * Every error of shmbroker, once: X(identifier, number, name on the wire, sentence).
 *
 * Where the system has a number for the meaning, ours is its negative, so that -errno and SHMB_E...
 * compare equal; the errors that no system has are numbered far below. On the wire an error travels
 * by name, never by number, because numbers differ between systems.
 */
#define SHMB_ERROR_MAP(X)                                                                      \
	X(EINVAL, -EINVAL, "invalid-argument", "invalid argument")                             \
	X(ENOMEM, -ENOMEM, "no-memory", "out of memory")                                       \
	X(ENOSPC, -ENOSPC, "no-space", "no space left for the region's memory")                \
	X(ENOENT, -ENOENT, "not-found", "nothing of that name")                                \
	X(EEXIST, -EEXIST, "exists", "the name is taken")                                      \
	X(EACCES, -EACCES, "denied", "permission denied")                                      \
	X(EBUSY, -EBUSY, "busy", "in use, try again")                                          \
	X(ETIMEDOUT, -ETIMEDOUT, "timed-out", "timed out")                                     \
	X(EMFILE, -EMFILE, "too-many-files", "too many open files in this process")            \
	X(ENFILE, -ENFILE, "too-many-files-system", "too many open files in the system")       \
	X(ETOOMANYREFS, -ETOOMANYREFS, "too-many-in-flight", "too many descriptors in flight") \
	X(EFBIG, -EFBIG, "too-large", "too large")                                             \
	X(EDQUOT, -EDQUOT, "quota-exceeded", "a limit for this user is reached")               \
	X(EPROTO, -EPROTO, "protocol-error", "the other side broke the protocol")              \
	X(ENOTSUP, -ENOTSUP, "unsupported", "not supported here")                              \
	X(ENOSYS, -ENOSYS, "unknown-method", "the broker does not know this method")           \
	X(ECONNREFUSED, -ECONNREFUSED, "no-broker", "no broker is listening at this address")  \
	X(ECANCELED, -ECANCELED, "cancelled", "cancelled")                                     \
	X(EDEADLK, -EDEADLK, "deadlock", "would deadlock with the caller's own lock")          \
	X(EOVERFLOW, -EOVERFLOW, "overflow", "value too large")                                \
	X(EOWNERDEAD, -EOWNERDEAD, "owner-died", "the previous owner died holding the lock")   \
	X(ENOTRECOVERABLE, -ENOTRECOVERABLE, "not-recoverable", "state not recoverable")       \
	X(EIO, -EIO, "io-error", "input/output error")                                         \
	X(ECLOSED, -10001, "closed", "the handle is closed")                                   \
	X(EBOUNDS, -10002, "out-of-bounds", "out of bounds")                                   \
	X(EALIGN, -10003, "misaligned", "misaligned offset")                                   \
	X(EBUS, -10004, "bus-error", "memory behind the mapping vanished")                     \
	X(EMODE, -10005, "wrong-mode", "the handle was not opened for this access")            \
	X(EDISCONNECTED, -10006, "disconnected", "the connection to the broker is gone")       \
	X(EFORKED, -10007, "forked", "the handle belongs to the parent process")               \
	X(EVERSION, -10008, "version", "no common protocol version")                           \
	X(ESLOTS, -10009, "no-slots", "every slot is taken")                                   \
	X(EKIND, -10010, "wrong-kind", "the name belongs to another kind of object")           \
	X(ESESSION, -10011, "no-session", "the broker does not know this session")             \
	X(EUNKNOWN, -10099, "unknown", "unknown error")

enum shmb_error_code {
#define SHMB_ERROR_ENUM(identifier, number, name, sentence) SHMB_##identifier = (number),
	SHMB_ERROR_MAP(SHMB_ERROR_ENUM)
#undef SHMB_ERROR_ENUM
};

#endif
