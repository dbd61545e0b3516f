/* SPDX-License-Identifier: MIT */
/* The table of operations and the table of backings: see lab/host/op.h. */
#include "lab/host/op.h"

#include <string.h>

#include "lib/option.h"

#define HUGE (2ull << 20)
#define HUGETLB BIT(HOST_ANONYMOUS_HUGETLB_2MB)
#define SHMEM (BIT(HOST_SHMEM) | BIT(HOST_SHMEM_THP))
#define GUEST_MEMFD BIT(HOST_GUEST_MEMFD)

#define KEPT                                                                                                           \
	{                                                                                                              \
		OP_KEEPS, OP_KEEPS, OP_KEEPS                                                                           \
	}
#define FRESH                                                                                                          \
	{                                                                                                              \
		OP_ZEROES, OP_ZEROES, OP_REVERTS                                                                       \
	} /* other memory stands there */
#define DROPPED                                                                                                        \
	{                                                                                                              \
		OP_ZEROES, OP_KEEPS, OP_REVERTS                                                                        \
	} /* page-table entries go; what the file holds stays */

const struct host_backing_info host_backing_table[HOST_BACKING_NR + 1] = {
	[HOST_ANONYMOUS] = { "anonymous", "private anonymous memory, no huge pages", false, BACKING_ANON, PAGE_SIZE },
	[HOST_MEMFD] = { "memfd", "shared mapping of a memfd (engine kvm)", true, BACKING_SHARED, PAGE_SIZE },
	[HOST_ANONYMOUS_THP] = { "anonymous_thp", "private anonymous memory, transparent huge pages (engine kvm)",
				 false, BACKING_ANON, PAGE_SIZE, .thp = true },
	[HOST_MEMFD_THP] = { "memfd_thp", "shared mapping of a memfd, huge pages by MADV_COLLAPSE (engine kvm)", true,
			     BACKING_SHARED, PAGE_SIZE, .thp = true },
	[HOST_ANONYMOUS_HUGETLB_2MB] = { "anonymous_hugetlb_2mb",
					 "private anonymous memory of reserved 2 MiB pages (engine kvm)", false,
					 BACKING_ANON, HUGE, true },
	[HOST_SHMEM] = { "shmem", "shared anonymous memory (engine kvm)", true, BACKING_SHARED, PAGE_SIZE },
	[HOST_SHMEM_THP] = { "shmem_thp", "shared anonymous memory, huge pages by MADV_COLLAPSE (engine kvm)", true,
			     BACKING_SHARED, PAGE_SIZE, .thp = true },
	[HOST_MEMFD_PRIVATE] = { "memfd_private", "private mapping of a memfd (engine kvm)", false, BACKING_PRIVATE,
				 PAGE_SIZE },
	[HOST_FILE_SHARED] = { "file_shared", "shared mapping of a file in TMPDIR or /var/tmp (engine kvm)", true,
			       BACKING_SHARED, PAGE_SIZE },
	[HOST_FILE_SHARED_THP] = { "file_shared_thp", "the same on a file system that gives huge pages (engine kvm)",
				   true, BACKING_SHARED, PAGE_SIZE, .thp = true },
	[HOST_FILE_PRIVATE] = { "file_private", "private mapping of such a file (engine kvm)", false, BACKING_PRIVATE,
				PAGE_SIZE },
	[HOST_GUEST_MEMFD] = { "guest_memfd", "guest_memfd, mapped; the memslot names the mapping (engine kvm)", true,
			       BACKING_SHARED, PAGE_SIZE },
};

const struct op_info op_table[OP_NR + 1] = {
	[OP_MUNMAP] = { "munmap", "unmap, leave a hole for a moment, map fresh memory", FRESH, .absent = true,
			.held = true },
	[OP_REMAP] = { "remap", "map fresh memory over the old with MAP_FIXED", FRESH },
	[OP_MPROTECT] = { "mprotect", "take the right to write or all rights away for a moment", KEPT, .absent = true,
			  .held = true },
	[OP_DONTNEED] = { "dontneed", "drop the contents with MADV_DONTNEED", DROPPED },
	[OP_MREMAP] = { "mremap", "move pages away and back, or away for good", KEPT, .absent = true, .held = true },
	[OP_DONTUNMAP] = { "dontunmap", "move pages away, leave their mapping (MREMAP_DONTUNMAP)", DROPPED,
			   .not_on = HUGETLB, .not_why = "hugetlb mappings are not left behind", .held = true },
	[OP_MREMAP_ONTO] = { "mremap_onto", "move a fresh mapping over the old one", FRESH },
	[OP_REMOVE] = { "remove",
			"drop the file's pages with MADV_REMOVE",
			{ OP_IMPOSSIBLE, OP_ZEROES, OP_IMPOSSIBLE },
			.not_why = "it wants a shared, writable mapping of a file" },
	[OP_PUNCH] = { "punch",
		       "punch a hole through the descriptor (FALLOC_FL_PUNCH_HOLE)",
		       { OP_IMPOSSIBLE, OP_ZEROES, OP_KEEPS }, /* private copies outlive their file's page */
		       .not_on = SHMEM,
		       .not_why = "there is no descriptor" },
	[OP_TRUNCATE] = { "truncate",
			  "make the file empty for a moment (ftruncate), then as long as before",
			  { OP_IMPOSSIBLE, OP_ZEROES, OP_ZEROES },
			  .not_on = SHMEM | GUEST_MEMFD,
			  .not_why = "there is no descriptor, or its size is fixed",
			  .absent = true,
			  .held = true,
			  .whole = true },
	[OP_GUARD] = { "guard", "guard pages for a moment (MADV_GUARD_INSTALL, Linux 6.13; files 6.15)", DROPPED,
		       .not_on = HUGETLB, .not_why = "hugetlb mappings have no guard pages", .absent = true,
		       .held = true },
	[OP_FREE] = { "free",
		      "let the kernel take the pages when it wants them (MADV_FREE)",
		      { OP_LAZY, OP_IMPOSSIBLE, OP_IMPOSSIBLE },
		      .not_on = HUGETLB,
		      .not_why = "it wants private anonymous memory of small pages" },
	[OP_COLD] = { "cold", "make the pages the next to be reclaimed (MADV_COLD)", KEPT, .not_on = HUGETLB,
		      .not_why = "hugetlb pages are not reclaimed" },
	[OP_PAGEOUT] = { "pageout", "reclaim the pages now, to swap or their file (MADV_PAGEOUT)", KEPT,
			 .not_on = HUGETLB, .not_why = "hugetlb pages are not reclaimed" },
	[OP_COLLAPSE] = { "collapse", "gather small pages into huge ones (MADV_COLLAPSE, Linux 6.1)", KEPT,
			  .not_on = HUGETLB, .not_why = "they are huge already" },
	[OP_SPLIT] = { "split", "split huge pages into small ones (MADV_COLD on a part of each)", KEPT,
		       .not_on = HUGETLB, .not_why = "hugetlb pages are not split" },
	[OP_COMPACT] = { "compact", "compact all of the machine's memory: pages move to other frames", KEPT,
			 .system = true },
	[OP_MERGE] = { "merge",
		       "merge equal pages by KSM, then unmerge them",
		       { OP_KEEPS, OP_IMPOSSIBLE, OP_KEEPS },
		       .not_on = HUGETLB,
		       .not_why = "KSM passes over shared memory and hugetlb pages",
		       .held = true,
		       .system = true },
	[OP_FORK] = { "fork", "a child process holds a copy for a moment", KEPT, .held = true },
	[OP_POPULATE] = { "populate", "fault all pages in for writing (MADV_POPULATE_WRITE)", KEPT },
};

enum op_contents op_contents(enum host_op op, enum host_backing backing)
{
	const struct op_info *info = &op_table[op];

	return info->not_on & BIT(backing) ? OP_IMPOSSIBLE : info->contents[host_backing_table[backing].kind];
}

/* --- lists of names ------------------------------------------------------------------ */

#define NAMES_MAX 32

static int parse_word(const char *word, size_t len, const char *const *names, const char *what, const char *list,
		      u32 *bits, struct err *err)
{
	const char *near_names[NAMES_MAX + 2] = { "all" }, *near;
	char text[48];
	u32 all = 0;

	for (unsigned int i = 0; names[i]; i++) {
		near_names[i + 1] = names[i];
		all |= BIT(i);
		if (strlen(names[i]) == len && !strncmp(word, names[i], len)) {
			*bits |= BIT(i);
			return 0;
		}
	}
	if (len == strlen("all") && !strncmp(word, "all", len)) {
		*bits |= all;
		return 0;
	}
	if (!len)
		return err_set(err, -EINVAL, "empty name in the list of %ss; `tain list %s` names them", what, list);
	len = min(len, sizeof(text) - 1);
	memcpy(text, word, len);
	text[len] = 0;
	near = option_nearest(text, near_names);
	return err_set(err, -EINVAL, "unknown %s '%s'%s%s%s; `tain list %s` names them", what, text,
		       near ? ", did you mean '" : "", near ?: "", near ? "'?" : "", list);
}

int op_parse_names(const char *text, const char *const *names, const char *what, const char *list, u32 *bits,
		   struct err *err)
{
	size_t len;
	int ret;

	*bits = 0;
	for (;; text += len + 1) {
		len = strcspn(text, ",");
		ret = parse_word(text, len, names, what, list, bits, err);
		if (ret || !text[len])
			return ret;
	}
}

int op_parse_list(const char *list, u32 *ops, struct err *err)
{
	const char *names[OP_NR + 1] = { NULL };

	_Static_assert(OP_NR <= NAMES_MAX, "operations fit the list and a u32");
	for (int i = 0; i < OP_NR; i++)
		names[i] = op_table[i].name;
	return op_parse_names(list, names, "operation", "ops", ops, err);
}

int op_parse_backings(const char *list, u32 *backings, struct err *err)
{
	const char *names[HOST_BACKING_NR + 1] = { NULL };

	_Static_assert(HOST_BACKING_NR <= NAMES_MAX, "backings fit the list and a u32");
	for (int i = 0; i < HOST_BACKING_NR; i++)
		names[i] = host_backing_table[i].name;
	return op_parse_names(list, names, "backing", "backings", backings, err);
}
