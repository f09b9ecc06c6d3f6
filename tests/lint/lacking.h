/* SPDX-License-Identifier: MIT */
/* What macOS or one of the BSDs does not have, taken away: see portable. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#undef MAP_FIXED_NOREPLACE
#undef MAP_HUGETLB
#undef MAP_NORESERVE
#undef MAP_POPULATE
#undef MAP_SHARED_VALIDATE
#undef MAP_SYNC
#undef MADV_COLLAPSE
#undef MADV_DONTDUMP
#undef MADV_DONTFORK
#undef MADV_HUGEPAGE
#undef MADV_POPULATE_READ
#undef MADV_POPULATE_WRITE
#undef MADV_REMOVE
#undef F_ADD_SEALS
#undef F_GET_SEALS
#undef F_OFD_SETLK
#undef POSIX_FADV_WILLNEED
#undef O_PATH
#undef O_TMPFILE
#undef BUS_MCEERR_AO
#undef BUS_MCEERR_AR
#pragma GCC poison accept4 copy_file_range dup3 fallocate gettid memfd_create mlock2 mremap pipe2
#pragma GCC poison posix_fadvise sync_file_range syscall
