/* SPDX-License-Identifier: MIT */
/*
 * The snapshot that a handler under uffd_check answers from: a file with a pattern.
 *
 * The 64-bit word k of page p (from the start of the file) holds (p + 1) << 32 | k,
 * little endian; so each word names its page, and none is zero.
 *
 * It has to be there before anybody connects: a handler may open it as soon as somebody
 * does. So that a handler which cannot be reached costs nobody a file, what stood there
 * is kept beside it until the handler has been reached, and put back otherwise.
 */
#ifndef LAB_UFFD_SNAPSHOT_H
#define LAB_UFFD_SNAPSHOT_H

#include <limits.h>

#include "lib/base.h"
#include "lib/err.h"

static inline u64 uffd_snapshot_word(u64 page, u64 k)
{
	return (page + 1) << 32 | k;
}

struct uffd_snapshot {
	char path[PATH_MAX]; /* empty: nothing was changed */
	char old[PATH_MAX];  /* what stood there before; empty: nothing did */
};

/*
 * Have the snapshot at @path, whole or not at all. A file that holds it already is left as it is; another one is
 * replaced only with @force. @stop: may be NULL; not 0: give up.
 * Return: 0; -EEXIST (another file, without @force), -EINTR, -errno with one line in @err; nothing has changed then.
 */
int uffd_snapshot_put(struct uffd_snapshot *s, const char *path, u64 bytes, bool force, const u32 *stop,
		      struct err *err);

/* It stays, and what it replaced goes. */
void uffd_snapshot_keep(struct uffd_snapshot *s);

/* As found, unless it was kept. Return: 0; -errno with one line in @err: where what stood there is now. */
int uffd_snapshot_undo(struct uffd_snapshot *s, struct err *err);

#endif /* LAB_UFFD_SNAPSHOT_H */
