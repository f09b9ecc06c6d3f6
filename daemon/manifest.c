/* SPDX-License-Identifier: MIT */
/*
 * The manifest's file. Must not know regions, sessions or the loop.
 */
#include "manifest.h"

#include "layout/step.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME     "manifest"
#define NEW_NAME "manifest.new"

enum {
	GROWTH = 256 << 10, /* bytes that the file grows by at least */
	DUE_LEAST = 1 << 20,
};

/* As it lies in the file. It never changes but at its end: any daemon has to find the version, and
 * the instance whose memory it may have to remove. */
struct manifest_header {
	char magic[8];
	uint32_t version;
	uint32_t first; /* where the records begin */
	uint64_t instance;
	uint8_t boot[16];
	_Atomic uint64_t committed; /* where they end */
	uint64_t next_id, next_session, recoveries;
};

struct record_header {
	uint64_t sum; /* of all behind it */
	uint16_t type;
	uint16_t fixed, text; /* bytes */
	uint16_t zero;
};

static const char magic[8] = { 's', 'h', 'm', 'b', 'm', 'f', 's', 't' };

static struct manifest_header *header_of(const struct manifest *manifest)
{
	return (struct manifest_header *)(void *)manifest->data;
}

size_t manifest_record_bytes(size_t fixed_size, size_t text_length)
{
	return (sizeof(struct record_header) + fixed_size + text_length + 7) / 8 * 8;
}

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) over words instead of bytes: each step is a
 * bijection, so one changed word always shows. @bytes: a multiple of 8. */
static uint64_t sum_of(const void *data, size_t bytes)
{
	const unsigned char *at = data;
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, at + i, sizeof(word));
		sum = (sum ^ word) * UINT64_C(0x100000001b3);
		sum ^= sum >> 32;
	}
	return sum;
}

/* Zeros where it cannot be told (a sandbox without /proc/sys): the file is then on a tmpfs, which
 * no boot survives either. */
static void read_boot(uint8_t boot[16])
{
	char text[40] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	memset(boot, 0, 16);
	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0)
		for (const char *at = text; *at && n < 16; at++)
			if (*at != '-' && sscanf(at++, "%2hhx", &boot[n++]) != 1)
				break;
	close(fd);
}

static bool is_told(const uint8_t boot[16])
{
	static const uint8_t zeros[16];

	return memcmp(boot, zeros, sizeof(zeros)) != 0;
}

static char *path_in(const char *directory, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* ---- Reading what is there ---- */

static int check_header(struct manifest_view *view)
{
	const struct manifest_header *header = (const void *)view->data;
	uint8_t boot[16];

	if (view->length < sizeof(*header) || memcmp(header->magic, magic, sizeof(magic)) != 0 ||
	    header->version == 0 || header->instance == 0)
		return MANIFEST_GARBLED;
	view->version = header->version;
	view->origin.instance = header->instance;
	read_boot(boot);
	if (memcmp(boot, header->boot, sizeof(boot)) != 0 && is_told(boot) && is_told(header->boot))
		return MANIFEST_NONE;
	if (header->version > MANIFEST_VERSION)
		return MANIFEST_NEWER;
	view->end = atomic_load(&header->committed);
	if (header->first < sizeof(*header) || header->first % 8 || view->end < header->first)
		return MANIFEST_GARBLED;
	if (header->first > view->length || header->next_id >= INT64_MAX ||
	    header->next_session >= INT64_MAX)
		return MANIFEST_GARBLED;
	if (view->end > view->length) {
		view->torn = view->end - view->length;
		view->end = view->length;
	}
	view->origin.next_id = header->next_id;
	view->origin.next_session = header->next_session;
	view->origin.recoveries = header->recoveries;
	return MANIFEST_GOOD;
}

int manifest_look(struct manifest_view *view, const char *directory)
{
	char *path = path_in(directory, NAME);
	struct stat st;
	void *data;
	int fd, error;

	*view = (struct manifest_view){ 0 };
	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	error = errno;
	free(path);
	if (fd < 0)
		return error == ENOENT ? MANIFEST_NONE : -error;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
		close(fd);
		return MANIFEST_GARBLED;
	}
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	error = errno;
	close(fd);
	if (data == MAP_FAILED)
		return -error;
	view->data = data;
	view->length = (uint64_t)st.st_size;
	return check_header(view);
}

void manifest_view_close(struct manifest_view *view)
{
	if (view->data)
		munmap((void *)(uintptr_t)view->data, view->length);
	view->data = NULL;
}

int manifest_read(const struct manifest_view *view, uint64_t *at, void *room, size_t room_size,
		  struct record *ret_record)
{
	const struct manifest_header *file = (const void *)view->data;
	struct record_header header;
	const unsigned char *record;
	size_t bytes, fixed;

	if (*at == 0)
		*at = file->first;
	if (*at == view->end)
		return 0;
	if (view->end - *at < sizeof(header))
		return -EBADMSG;
	record = view->data + *at;
	memcpy(&header, record, sizeof(header));
	bytes = manifest_record_bytes(header.fixed, header.text);
	if (bytes > view->end - *at ||
	    header.sum != sum_of(record + sizeof(header.sum), bytes - sizeof(header.sum)))
		return -EBADMSG;
	fixed = header.fixed < room_size ? header.fixed : room_size;
	memset(room, 0, room_size);
	memcpy(room, record + sizeof(header), fixed);
	*ret_record = (struct record){ .type = header.type,
				       .fixed = room,
				       .text = (const char *)record + sizeof(header) + header.fixed,
				       .text_length = header.text };
	*at += bytes;
	return 1;
}

void manifest_remove(const char *directory)
{
	static const char *const names[] = { NAME, NEW_NAME };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = path_in(directory, names[i]);

		if (path)
			unlink(path);
		free(path);
	}
}

/* ---- Room ---- */

static int reserve_blocks(int fd, off_t length)
{
	while (fallocate(fd, 0, 0, length) < 0) {
		if (errno == EOPNOTSUPP) /* NFS, say: this writes zeros */
			return -posix_fallocate(fd, 0, length);
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* All of the file has memory behind it, so that no store into the mapping can fault. */
static int grow(struct manifest *manifest, uint64_t length)
{
	void *data;
	int result;

	length = (length + GROWTH - 1) / GROWTH * GROWTH;
	result = reserve_blocks(manifest->fd, (off_t)length);
	if (result < 0)
		return result;
	data = manifest->data
		       ? mremap(manifest->data, manifest->length, length, MREMAP_MAYMOVE)
		       : mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, manifest->fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	manifest->data = data;
	manifest->length = length;
	return 0;
}

int manifest_reserve(struct manifest *manifest, uint64_t bytes)
{
	uint64_t needed = manifest->used + manifest->owed + bytes;

	if (!manifest->path || needed <= manifest->length)
		return 0;
	return grow(manifest, needed);
}

/* ---- Appending ---- */

void manifest_append(struct manifest *manifest, enum record_type type, const void *fixed,
		     size_t fixed_size, const char *text, size_t text_length)
{
	size_t bytes = manifest_record_bytes(fixed_size, text_length);
	struct record_header header = { .type = (uint16_t)type,
					.fixed = (uint16_t)fixed_size,
					.text = (uint16_t)text_length };
	unsigned char *record;

	if (!manifest->path)
		return;
	if (bytes > manifest->length - manifest->used &&
	    grow(manifest, manifest->used + bytes) < 0) {
		manifest->behind = true;
		return;
	}
	record = manifest->data + manifest->used;
	memset(record + bytes - 8, 0, 8); /* what the rounding adds */
	memcpy(record, &header, sizeof(header));
	memcpy(record + sizeof(header), fixed, fixed_size);
	STEP();
	if (text_length > 0)
		memcpy(record + sizeof(header) + fixed_size, text, text_length);
	header.sum = sum_of(record + sizeof(header.sum), bytes - sizeof(header.sum));
	memcpy(record, &header.sum, sizeof(header.sum));
	STEP();
	manifest->used += bytes;
}

/*
 * Release: the records before the word that says that they are there, in the order in which this
 * thread's stores reach the page cache. The reader is a later process, which the kernel has started
 * after the death of this one; that orders the rest.
 */
void manifest_commit(struct manifest *manifest)
{
	struct manifest_header *header;

	if (!manifest->path)
		return;
	header = header_of(manifest);
	if (atomic_load_explicit(&header->committed, memory_order_relaxed) == manifest->used)
		return;
	STEP();
	atomic_store_explicit(&header->committed, manifest->used, memory_order_release);
	STEP();
}

/* ---- Writing it anew ---- */

static void write_header(struct manifest *manifest, const struct manifest_origin *origin)
{
	struct manifest_header header = { .version = MANIFEST_VERSION,
					  .first = sizeof(header),
					  .instance = origin->instance,
					  .next_id = origin->next_id,
					  .next_session = origin->next_session,
					  .recoveries = origin->recoveries };

	memcpy(header.magic, magic, sizeof(magic));
	read_boot(header.boot);
	// NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) grow() has mapped it
	memcpy(manifest->data, &header, sizeof(header));
	manifest->used = sizeof(header);
}

static int open_new(struct manifest *fresh, const char *directory, const struct manifest *old)
{
	fresh->fd = -1;
	fresh->path = directory ? path_in(directory, NAME) : strdup(old->path);
	fresh->new_path = directory ? path_in(directory, NEW_NAME) : strdup(old->new_path);
	if (!fresh->path || !fresh->new_path)
		return -ENOMEM;
	unlink(fresh->new_path);
	fresh->fd = open(fresh->new_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fresh->fd < 0)
		return -errno;
	fresh->owed = old->owed;
	return grow(fresh,
		    old->after_write + old->owed + GROWTH); /* about as much again, at once */
}

static int put_in_place(struct manifest *fresh)
{
	if (fresh->behind)
		return -ENOSPC;
	STEP();
	manifest_commit(fresh);
	if (rename(fresh->new_path, fresh->path) < 0)
		return -errno;
	STEP();
	return 0;
}

int manifest_write(struct manifest *manifest, const char *directory,
		   const struct manifest_origin *origin,
		   void (*write_all)(struct manifest *manifest, void *userdata), void *userdata)
{
	struct manifest fresh = { 0 };
	int result = open_new(&fresh, directory, manifest);

	if (result == 0) {
		write_header(&fresh, origin);
		STEP();
		write_all(&fresh, userdata);
		/* As much room as is owed, and some to begin with. */
		result = manifest_reserve(&fresh, GROWTH / 2);
	}
	if (result == 0)
		result = put_in_place(&fresh);
	if (result < 0) {
		if (fresh.fd >= 0)
			unlink(fresh.new_path);
		manifest_close(&fresh);
		return result;
	}
	manifest_close(manifest);
	fresh.after_write = fresh.used;
	*manifest = fresh;
	return 0;
}

static int map_old(struct manifest *old)
{
	struct stat st;

	old->fd = open(old->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (old->fd < 0 || fstat(old->fd, &st) < 0)
		return -errno;
	old->length = (uint64_t)st.st_size;
	old->data = mmap(NULL, old->length, PROT_READ | PROT_WRITE, MAP_SHARED, old->fd, 0);
	if (old->data == MAP_FAILED) {
		old->data = NULL;
		return -errno;
	}
	return 0;
}

int manifest_continue(struct manifest *manifest, const char *directory)
{
	struct manifest old = { .fd = -1, .owed = manifest->owed, .behind = true };
	int result = -ENOMEM;

	old.path = path_in(directory, NAME);
	old.new_path = path_in(directory, NEW_NAME);
	if (old.path && old.new_path)
		result = map_old(&old);
	if (result == 0) {
		old.used = old.after_write = atomic_load(&header_of(&old)->committed);
		result = manifest_reserve(&old, 0);
	}
	if (result < 0) {
		manifest_close(&old);
		return result;
	}
	manifest_close(manifest);
	*manifest = old;
	return 0;
}

bool manifest_is_due(const struct manifest *manifest)
{
	return manifest->path &&
	       (manifest->behind || manifest->used > 2 * manifest->after_write + DUE_LEAST);
}

void manifest_close(struct manifest *manifest)
{
	if (manifest->data)
		munmap(manifest->data, manifest->length);
	if (manifest->fd >= 0)
		close(manifest->fd);
	free(manifest->path);
	free(manifest->new_path);
	*manifest = (struct manifest){ .fd = -1 };
}
