/* SPDX-License-Identifier: MIT */
#ifndef SHMBROKER_MEMORY_H
#define SHMBROKER_MEMORY_H

/*
 * Pages: what a region's mapping is to the memory management of the system. Part of
 * <shmbroker/shmbroker.h>, whose first comment holds here, too.
 *
 * Ranges are in bytes within the region's size, and are widened to whole pages, which are huge ones
 * where the region is made of those of the pool; length 0 stands for everything from the offset on.
 * A range that is out of bounds is SHMB_EBOUNDS and nothing is done.
 */

#include <shmbroker/shmbroker.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/** shmb_page_size() - bytes of an ordinary page of memory. */
size_t shmb_page_size(void);

/**
 * shmb_align_up() - the smallest multiple of @alignment that is not below @bytes
 * @alignment: a power of two
 *
 * Return: that, or 0: @alignment is none, or there is no such number.
 */
uint64_t shmb_align_up(uint64_t bytes, uint64_t alignment);

/* ---- What this system can do ---- */

/** X(identifier, number, name, what it is), in the order of `shmbctl features`. */
#define SHMB_FEATURE_MAP(X)                                                                   \
	X(MEMFD, 1, "memfd", "sealed memory without a name")                                  \
	X(HUGETLB, 2, "hugetlb", "a pool of huge pages that has some")                        \
	X(TRANSPARENT_HUGE, 3, "transparent-huge", "transparent huge pages in shared memory") \
	X(HUGE_ANSWER, 4, "huge-answer", "the kernel tells whether a mapping is huge")        \
	X(PIN, 5, "pin", "keeping pages in memory")                                           \
	X(POPULATE, 6, "populate", "making pages present without touching them")              \
	X(FIXED, 7, "fixed", "mapping at an address without replacing what is there")         \
	X(SYNC, 8, "sync", "MAP_SYNC on persistent memory")                                   \
	X(NO_CACHE, 9, "no-cache", "mapping past the page cache")                             \
	X(PUNCH, 10, "punch", "giving back memory in the middle of a segment")                \
	X(FILE_EVENTS, 11, "file-events", "being told of changes to a file")                  \
	X(GUARD, 12, "guard", "going on after SIGBUS")

enum shmb_feature {
#define SHMB_FEATURE_ENUM(identifier, number, name, what) SHMB_FEATURE_##identifier = (number),
	SHMB_FEATURE_MAP(SHMB_FEATURE_ENUM)
#undef SHMB_FEATURE_ENUM
};

/**
 * shmb_supports() - can this system do that, now?
 *
 * Asks the system, not a table of versions; may take some microseconds,
 * SHMB_FEATURE_TRANSPARENT_HUGE a millisecond, as a huge page is made to find out. What is not
 * supported fails with SHMB_ENOTSUP, or is done without where that is only slower.
 *
 * Return: 1, 0, or SHMB_EINVAL (no such feature). Advices: shmb_supports_advice() below.
 */
int shmb_supports(enum shmb_feature feature);

/* ---- Presence ---- */

/**
 * shmb_region_touch() - make a range's pages present now, for reading or for reading and writing as
 * the handle can, so that the first access does not fault
 *
 * Nothing is changed, whatever others write meanwhile. A file's pages are made present for reading
 * alone, so that they do not all become dirty; a private handle that can write gets copies, as with
 * MAP_POPULATE.
 *
 * Return: 0, or SHMB_EBOUNDS, SHMB_ENOMEM, SHMB_EBUS (there is no memory for it, or nothing behind
 * it), SHMB_EACCES (SHMB_NO_ACCESS or shmb_region_protect() forbids it).
 */
int shmb_region_touch(struct shmb_region *region, uint64_t offset, uint64_t length);

/**
 * shmb_region_pin(), shmb_region_unpin() - keep a range in memory (mlock(2)), or no longer
 *
 * Does not add up: one unpin undoes all pins of a page. A growth beyond the capacity unpins.
 *
 * Return: 0, or SHMB_EBOUNDS, SHMB_ENOMEM, SHMB_EBUS, SHMB_EACCES (as shmb_region_touch()),
 * SHMB_ENOTSUP, or
 *   SHMB_EDQUOT  more than RLIMIT_MEMLOCK allows: the last error has its bytes as limit, and
 * "RLIMIT_MEMLOCK" as what
 */
int shmb_region_pin(struct shmb_region *region, uint64_t offset, uint64_t length);
int shmb_region_unpin(struct shmb_region *region, uint64_t offset, uint64_t length);

/** What a program means to do with a range: X(identifier, number, name). Those from FREE on are not
 * everywhere. */
#define SHMB_ADVICE_MAP(X)                \
	X(NORMAL, 0, "normal")            \
	X(RANDOM, 1, "random")            \
	X(SEQUENTIAL, 2, "sequential")    \
	X(WILLNEED, 3, "willneed")        \
	X(DONTNEED, 4, "dontneed")        \
	X(PREFETCH, 5, "prefetch")        \
	X(FREE, 6, "free")                \
	X(REMOVE, 7, "remove")            \
	X(DONTFORK, 8, "dontfork")        \
	X(DOFORK, 9, "dofork")            \
	X(MERGEABLE, 10, "mergeable")     \
	X(UNMERGEABLE, 11, "unmergeable") \
	X(HUGEPAGE, 12, "hugepage")       \
	X(NOHUGEPAGE, 13, "nohugepage")   \
	X(DONTDUMP, 14, "dontdump")       \
	X(DODUMP, 15, "dodump")           \
	X(WIPEONFORK, 16, "wipeonfork")   \
	X(KEEPONFORK, 17, "keeponfork")   \
	X(COLD, 18, "cold")               \
	X(PAGEOUT, 19, "pageout")         \
	X(COLLAPSE, 20, "collapse")

enum shmb_advice {
#define SHMB_ADVICE_ENUM(identifier, number, name) SHMB_ADVICE_##identifier = (number),
	SHMB_ADVICE_MAP(SHMB_ADVICE_ENUM)
#undef SHMB_ADVICE_ENUM
};

/**
 * shmb_region_advise() - tell the system what a range will be used for (madvise(2))
 *
 * No advice changes what a region's bytes are, but one: SHMB_ADVICE_REMOVE frees the memory and
 * makes the bytes zeros for everybody, these bytes alone: what is no whole page is overwritten. It
 * needs SHMB_WRITE. On a private handle SHMB_ADVICE_DONTNEED gives up what this process has
 * written, in the whole pages within the range. SHMB_ADVICE_PREFETCH reads the range of a file
 * ahead, whether it is mapped or not (posix_fadvise(2)), and is WILLNEED for memory.
 * SHMB_ADVICE_COLLAPSE wants a mapping that suits huge pages, which is certain only for a handle
 * that was made or opened with options.huge, and a whole huge page of it with memory: SHMB_EINVAL
 * else. SHMB_ADVICE_FREE and _WIPEONFORK are for memory with nothing behind it: the system refuses
 * them for mappings of regions, private ones too, with SHMB_EINVAL.
 *
 * Return: 0, or SHMB_EBOUNDS, SHMB_EINVAL (no such advice, or not for this mapping), SHMB_EMODE,
 * SHMB_ENOTSUP (not on this system), SHMB_ENOMEM, SHMB_EACCES, SHMB_EBUSY (pages were pinned or in
 * use), SHMB_EIO, SHMB_EBUS (SHMB_ADVICE_REMOVE: memory in the range has vanished).
 */
int shmb_region_advise(struct shmb_region *region, uint64_t offset, uint64_t length,
		       enum shmb_advice advice);

/** shmb_supports_advice() - does this system have it? Return: 1 or 0. */
int shmb_supports_advice(enum shmb_advice advice);

/** Answers of the kernel. */
enum shmb_answer {
	SHMB_NO = 0,
	SHMB_YES = 1,
	SHMB_UNKNOWN = 2,
};

/**
 * shmb_region_huge() - is the mapping backed by huge pages?
 *
 * What the kernel says (PAGEMAP_SCAN, before Linux 6.7 /proc/self/smaps), not what was asked for:
 * yes if every page that is present is part of a huge one, no if one is not; unknown if none is
 * present, or the kernel does not tell. Takes as long as the kernel takes to look, some
 * microseconds for each MiB that is present; with smaps, of the whole process.
 *
 * Return: enum shmb_answer.
 */
int shmb_region_huge(struct shmb_region *region);

/** Bits for shmb_region_protect(). */
enum shmb_protection {
	SHMB_PROTECT_NONE = 0,
	SHMB_PROTECT_READ = 1 << 0,
	SHMB_PROTECT_WRITE = 1 << 1,
	SHMB_PROTECT_EXEC = 1 << 2,
};

/**
 * shmb_region_protect() - what this process may do to a range of the mapping from now on
 * (mprotect(2))
 * @protection: enum shmb_protection, ored; no more than the handle's access (SHMB_EMODE)
 *
 * An access that it forbids is a SIGSEGV, also inside shmb_region_read() and the like: this is for
 * programs that want to be stopped. A growth beyond the capacity undoes it.
 *
 * Return: 0, or SHMB_EBOUNDS, SHMB_EINVAL, SHMB_EMODE, SHMB_EACCES (the backing forbids to execute
 * it), SHMB_ENOMEM.
 */
int shmb_region_protect(struct shmb_region *region, uint64_t offset, uint64_t length,
			unsigned protection);

/* ---- When memory vanishes ----
 *
 * A file can be shortened by others while it is mapped, /dev/shm can be full, a page can turn out
 * to be bad. Touching such memory is a SIGBUS, which ends a process. With the first region of a
 * process that is mapped without SHMB_UNGUARDED this library installs a handler for it. If the
 * fault lies in one of the library's mappings, the page is replaced by one of private zeros and
 * remembered, and the access goes on; reading, writing, releasing a view and shmb_region_check()
 * then say SHMB_EBUS for ranges in which that has happened, and locking says it if the lock has
 * vanished. A fault elsewhere goes to the handler that was there before, or ends the process as it
 * would have. So does any fault in a thread that blocks SIGBUS, whatever handler there is.
 *
 * Memory vanishes in whole pages: a file that is cut off within a page reads as zeros from there to
 * the end of that page, and no error tells of it. A watch for SHMB_EVENT_FILE does.
 *
 * A page that was replaced is looked at again by the next call that touches it, if there is a
 * descriptor to map it from (a file, or SHMB_KEEP_FD): when there is memory again, it is back,
 * neither pinned nor with what shmb_region_advise() and shmb_region_protect() said of it. Else open
 * the region anew.
 */

/**
 * shmb_guard_install() - install the handler (again)
 *
 * For programs that set a SIGBUS handler of their own after they have opened a region: theirs is
 * then the one that other faults go to. Safe from any thread.
 *
 * Return: 0, or SHMB_ENOTSUP.
 */
int shmb_guard_install(void);

/**
 * shmb_region_check() - has memory in a range vanished?
 *
 * Does not look for it: says what has been noticed. For what is accessed through pointers.
 *
 * Return: 0, SHMB_EBUS (the last error has the first page's offset and how many bytes follow), or
 * SHMB_EBOUNDS.
 */
int shmb_region_check(struct shmb_region *region, uint64_t offset, uint64_t length);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
