/* SPDX-License-Identifier: MIT */
/* Operations, drawn: the window before, one operation, the window and its contents after. */
#include <string.h>

#include "tests/mm_env.h"

enum op {
	OP_MMAP,
	OP_MMAP_NOREPLACE,
	OP_MAP_PFN,
	OP_MUNMAP,
	OP_MPROTECT,
	OP_MREMAP,
	OP_MREMAP_FIXED,
	OP_DONTNEED,
	OP_NR
};

struct op_case {
	const char *name;
	const char *before;
	enum op op;
	unsigned int page, pages;  /* where, in the window */
	int prot;		   /* MMAP, MPROTECT */
	unsigned int to, to_pages; /* MREMAP */
	int err;
	const char *after; /* where '/' stands, two VMAs if pages were touched before: anon_vmas are not joined */
	const char *contents;
};

static const struct op_case cases[] = {
	/* mmap */
	{ "into nothing", "........", OP_MMAP, 2, 3, RW, 0, 0, 0, "..WWW...", "..000..." },
	{ "joins left", "WW......", OP_MMAP, 2, 3, RW, 0, 0, 0, "WWWWW...", "ab000..." },
	{ "joins right", "....WW..", OP_MMAP, 2, 2, RW, 0, 0, 0, "..WWWW..", "..00ef.." },
	{ "joins both", "WW..WW..", OP_MMAP, 2, 2, RW, 0, 0, 0, "WWWW/WW..", "ab00ef.." },
	{ "other rights join nothing", "WW..WW..", OP_MMAP, 2, 2, TAIN_PROT_READ, 0, 0, 0, "WWRRWW..", "ab00ef.." },
	{ "over the middle, same rights", "WWWWWW", OP_MMAP, 2, 2, RW, 0, 0, 0, "WWWWWW", "ab00ef" },
	{ "over the middle, other rights", "WWWWWW", OP_MMAP, 2, 2, TAIN_PROT_NONE, 0, 0, 0, "WWNNWW", "ab00ef" },
	{ "over three mappings", "WWRRWW", OP_MMAP, 1, 4, TAIN_PROT_READ, 0, 0, 0, "WRRRRW", "a0000f" },
	{ "over mappings and holes", "W.RN.W", OP_MMAP, 0, 6, RW, 0, 0, 0, "WWWWWW", "000000" },
	{ "over a special mapping", "WPPW", OP_MMAP, 1, 2, RW, 0, 0, 0, "WWW/W", "a00d" },
	{ "noreplace into a hole", "W..W", OP_MMAP_NOREPLACE, 1, 2, RW, 0, 0, 0, "WWW/W", "a00d" },
	{ "noreplace over a page", "W..W", OP_MMAP_NOREPLACE, 1, 3, RW, 0, 0, -EEXIST, "W..W", "a..d" },
	{ "special beside special", "P...", OP_MAP_PFN, 1, 2, RW, 0, 0, 0, "PPP.", "abc." },
	{ "special over a page", "..W.", OP_MAP_PFN, 1, 2, RW, 0, 0, -EEXIST, "..W.", "..c." },

	/* munmap */
	{ "all", "WWWW", OP_MUNMAP, 0, 4, 0, 0, 0, 0, "....", "...." },
	{ "head", "WWWW", OP_MUNMAP, 0, 1, 0, 0, 0, 0, ".WWW", ".bcd" },
	{ "tail", "WWWW", OP_MUNMAP, 3, 1, 0, 0, 0, 0, "WWW.", "abc." },
	{ "middle", "WWWWWW", OP_MUNMAP, 2, 2, 0, 0, 0, 0, "WW..WW", "ab..ef" },
	{ "a hole", "W..W", OP_MUNMAP, 1, 2, 0, 0, 0, 0, "W..W", "a..d" },
	{ "several and holes", "WR.NX.WW", OP_MUNMAP, 1, 6, 0, 0, 0, 0, "W......W", "a......h" },
	{ "middle of special", "PPPP", OP_MUNMAP, 1, 2, 0, 0, 0, 0, "P..P", "a..d" },
	{ "across the border of tables", "WWWWWWWW", OP_MUNMAP, 3, 2, 0, 0, 0, 0, "WWW..WWW", "abc..fgh" },

	/* mprotect */
	{ "same rights", "WWWW", OP_MPROTECT, 1, 2, RW, 0, 0, 0, "WWWW", "abcd" },
	{ "head read", "WWWW", OP_MPROTECT, 0, 2, TAIN_PROT_READ, 0, 0, 0, "RRWW", "abcd" },
	{ "tail none", "WWWW", OP_MPROTECT, 2, 2, TAIN_PROT_NONE, 0, 0, 0, "WWNN", "abcd" },
	{ "middle exec", "WWWWWW", OP_MPROTECT, 2, 2, TAIN_PROT_READ | TAIN_PROT_EXEC, 0, 0, 0, "WWXXWW", "abcdef" },
	{ "back, joins both", "WWRRWW", OP_MPROTECT, 2, 2, RW, 0, 0, 0, "WWWWWW", "abcdef" },
	{ "joins left only", "WWRR..", OP_MPROTECT, 2, 1, RW, 0, 0, 0, "WWWR..", "abcd.." },
	{ "three mappings to one", "RRNNXX", OP_MPROTECT, 0, 6, RW, 0, 0, 0, "WWWWWW", "abcdef" },
	{ "inside three mappings", "RRNNXX", OP_MPROTECT, 1, 4, RW, 0, 0, 0, "RWWWWX", "abcdef" },
	{ "stops at a hole", "WW.WW", OP_MPROTECT, 0, 5, TAIN_PROT_READ, 0, 0, -ENOMEM, "RR.WW", "ab.de" },
	{ "begins in a hole", ".WW", OP_MPROTECT, 0, 3, TAIN_PROT_READ, 0, 0, -ENOMEM, ".WW", ".bc" },
	{ "special keeps its frames", "PPPP", OP_MPROTECT, 0, 4, RW, 0, 0, 0, "PPPP", "abcd" },

	/* mremap, in place */
	{ "same size", "WWWW", OP_MREMAP, 0, 4, 0, 0, 4, 0, "WWWW", "abcd" },
	{ "shrink", "WWWW", OP_MREMAP, 0, 4, 0, 0, 2, 0, "WW..", "ab.." },
	{ "shrink inside", "WWWWWW", OP_MREMAP, 1, 3, 0, 0, 1, 0, "WW..WW", "ab..ef" },
	{ "grow into a hole", "WW....", OP_MREMAP, 0, 2, 0, 0, 4, 0, "WWWW..", "ab00.." },
	{ "grow up to its like", "WW..WW", OP_MREMAP, 0, 2, 0, 0, 4, 0, "WWWW/WW", "ab00ef" },
	{ "grow into a mapping", "WW.R..", OP_MREMAP, 0, 2, 0, 0, 4, -ENOMEM, "WW.R..", "ab.d.." },
	{ "grow from the middle", "WWWW..", OP_MREMAP, 0, 2, 0, 0, 3, -ENOMEM, "WWWW..", "abcd.." },
	{ "not one mapping", "WWRR..", OP_MREMAP, 0, 4, 0, 0, 2, -EFAULT, "WWRR..", "abcd.." },
	{ "a hole", "W.....", OP_MREMAP, 1, 2, 0, 0, 1, -EFAULT, "W.....", "a....." },
	{ "special does not grow", "PP....", OP_MREMAP, 0, 2, 0, 0, 4, -EFAULT, "PP....", "ab...." },

	/* mremap, to a fixed place */
	{ "move", "WWWW....", OP_MREMAP_FIXED, 0, 4, 0, 4, 4, 0, "....WWWW", "....abcd" },
	{ "move the middle", "WWWW....", OP_MREMAP_FIXED, 1, 2, 0, 5, 2, 0, "W..W.WW.", "a..d.bc." },
	{ "move, read only", "RR....", OP_MREMAP_FIXED, 0, 2, 0, 3, 2, 0, "...RR.", "...ab." },
	{ "move, no rights", "NN....", OP_MREMAP_FIXED, 0, 2, 0, 3, 2, 0, "...NN.", "...ab." },
	{ "move special", "PP....", OP_MREMAP_FIXED, 0, 2, 0, 3, 2, 0, "...PP.", "...ab." },
	{ "move and grow", "WW......", OP_MREMAP_FIXED, 0, 2, 0, 3, 4, 0, "...WWWW.", "...ab00." },
	{ "move and shrink", "WWWW....", OP_MREMAP_FIXED, 0, 4, 0, 5, 2, 0, ".....WW.", ".....ab." },
	{ "onto a mapping", "WW..RRRR", OP_MREMAP_FIXED, 0, 2, 0, 5, 2, 0, "....RWWR", "....eabh" },
	{ "onto its like", "WW..WWWW", OP_MREMAP_FIXED, 0, 2, 0, 5, 2, 0, "....W|WW|W", "....eabh" },
	{ "down", "....WWWW", OP_MREMAP_FIXED, 4, 4, 0, 0, 4, 0, "WWWW....", "efgh...." },
	{ "by one", "WW......", OP_MREMAP_FIXED, 1, 1, 0, 2, 1, 0, "W.W.....", "a.b....." },
	{ "beside what it left", "WWWW....", OP_MREMAP_FIXED, 2, 2, 0, 4, 2, 0, "WW..WW..", "ab..cd.." },
	{ "overlap", "WWWW....", OP_MREMAP_FIXED, 0, 4, 0, 2, 4, -EINVAL, "WWWW....", "abcd...." },

	/* madvise */
	{ "dontneed", "WWWW", OP_DONTNEED, 1, 2, 0, 0, 0, 0, "WWWW", "a00d" },
	{ "dontneed, no rights needed", "WNRW", OP_DONTNEED, 1, 2, 0, 0, 0, 0, "WNRW", "a00d" },
	{ "dontneed over a hole", "WW.WW", OP_DONTNEED, 1, 3, 0, 0, 0, -ENOMEM, "WW.WW", "a0.0e" },
	{ "dontneed of a hole", "W..W", OP_DONTNEED, 1, 2, 0, 0, 0, -ENOMEM, "W..W", "a..d" },
	{ "dontneed of special", "WPW", OP_DONTNEED, 0, 3, 0, 0, 0, -EINVAL, "WPW", "abc" },
};

static int run_op(struct env *env, const struct op_case *c)
{
	hva_t addr = env_addr(env, c->page);
	size_t len = c->pages * PAGE_SIZE;
	hva_t out = 0;
	int err;

	switch (c->op) {
	case OP_MMAP:
		return mm_mmap(env->mm, addr, len, c->prot, TAIN_MAP_FIXED, NULL);
	case OP_MMAP_NOREPLACE:
		return mm_mmap(env->mm, addr, len, c->prot, TAIN_MAP_FIXED_NOREPLACE, NULL);
	case OP_MAP_PFN:
		for (unsigned int i = 0; i < ENV_WINDOW; i++) /* their letters */
			*(u64 *)frame_address(frame_page(env->arena, env->reserved + i)) = 'a' + i;
		err = mm_map_pfn(env->mm, addr, env->reserved + c->page, len, c->prot);
		return err ? err : mm_populate(env->mm, addr, len);
	case OP_MUNMAP:
		return mm_munmap(env->mm, addr, len);
	case OP_MPROTECT:
		return mm_mprotect(env->mm, addr, len, c->prot);
	case OP_MREMAP:
		err = mm_mremap(env->mm, addr, len, c->to_pages * PAGE_SIZE, 0, 0, &out);
		if (!err)
			CHECK_EQ(out, addr);
		return err;
	case OP_MREMAP_FIXED:
		err = mm_mremap(env->mm, addr, len, c->to_pages * PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
				env_addr(env, c->to), &out);
		if (!err)
			CHECK_EQ(out, env_addr(env, c->to));
		return err;
	case OP_DONTNEED:
		return mm_madvise(env->mm, addr, len, TAIN_MADV_DONTNEED);
	default:
		return -ENOSYS;
	}
}

static void expected_picture(const char *after, bool touched, char *out)
{
	for (; *after; after++) {
		if (*after != '/')
			*out++ = *after;
		else if (touched)
			*out++ = '|';
	}
	*out = '\0';
}

/* @touched: pages are there; else nothing is, and the contents are zero wherever a page may be. */
static void run_case(const struct op_case *c, hva_t base, bool touched)
{
	char after[ENV_TEXT], picture[ENV_TEXT], contents[ENV_TEXT];
	struct env env;
	int err;

	if (!env_init(&env, base))
		return;
	expected_picture(c->after, touched, after);
	env_draw(&env, c->before, touched);
	err = run_op(&env, c);
	CHECK_MSG(err == c->err, "%s: error %d, expected %d", c->name, err, c->err);
	mm_check(env.mm);
	env_picture(&env, (unsigned int)strlen(c->contents), picture);
	CHECK_MSG(!strcmp(picture, after), "%s: '%s', expected '%s'", c->name, picture, after);
	if (touched) {
		env_contents(&env, (unsigned int)strlen(c->contents), contents);
		CHECK_MSG(!strcmp(contents, c->contents), "%s: '%s', expected '%s'", c->name, contents, c->contents);
	}
	env_fini(&env);
}

static void pictures(void)
{
	u32 seen = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		run_case(&cases[i], ENV_BASE_LEAF, true);
		run_case(&cases[i], ENV_BASE_ROOT, true);
		seen |= 1u << cases[i].op;
	}
	CHECK_EQ(seen, (1u << OP_NR) - 1); /* every operation has its cases */
}

static void pictures_untouched(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++)
		run_case(&cases[i], ENV_BASE_LEAF, false);
}

/* Rights of the entries, not only of the VMA, follow at once. */
static void protect_entries(void)
{
	struct mm_fault fault;
	bool writable = true;
	struct env env;
	hva_t addr;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WWWW", true);
	addr = env_addr(&env, 1);
	CHECK_EQ(mm_mprotect(env.mm, addr, PAGE_SIZE, TAIN_PROT_READ), 0);
	mm_audit_begin(env.mm);
	CHECK(mm_audit_lookup(env.mm, addr, &writable));
	CHECK(!writable);
	mm_audit_end(env.mm);
	CHECK_EQ(mm_fault_in(env.mm, addr, MM_READ, &fault), 0);
	CHECK(!fault.writable);
	put_page(fault.page);
	CHECK_EQ(mm_fault_in(env.mm, addr, MM_WRITE, &fault), -EFAULT);
	CHECK_EQ(mm_fault_in(env.mm, addr, MM_READ | MM_WRITE, &fault), -EFAULT);

	CHECK_EQ(mm_mprotect(env.mm, addr, PAGE_SIZE, TAIN_PROT_NONE), 0);
	CHECK_EQ(mm_fault_in(env.mm, addr, MM_READ, &fault), -EFAULT);
	mm_audit_begin(env.mm);
	CHECK(!mm_audit_lookup(env.mm, addr, &writable)); /* held, but nobody may touch it */
	mm_audit_end(env.mm);

	CHECK_EQ(mm_mprotect(env.mm, addr, PAGE_SIZE, RW), 0);
	CHECK_EQ(mm_fault_in(env.mm, addr, MM_READ, &fault), 0);
	CHECK(fault.writable);
	CHECK_EQ(*(u64 *)page_address(fault.page), 'b');
	put_page(fault.page);
	env_fini(&env);
}

/* Automatic placement: from the top, below what is there, and into holes that are long enough. */
static void placement(void)
{
	hva_t a = 0, b = 0, c = 0, d = 0;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, 0, 4 * PAGE_SIZE, RW, 0, &a), 0);
	CHECK_EQ(a, TAIN_TASK_SIZE - 4 * PAGE_SIZE);
	CHECK_EQ(mm_mmap(env.mm, 0, 2 * PAGE_SIZE, TAIN_PROT_READ, 0, &b), 0);
	CHECK_EQ(b, a - 2 * PAGE_SIZE);
	CHECK_EQ(mm_munmap(env.mm, a + PAGE_SIZE, 2 * PAGE_SIZE), 0);
	CHECK_EQ(mm_mmap(env.mm, 0, 3 * PAGE_SIZE, RW, 0, &c), 0);
	CHECK_EQ(c, b - 3 * PAGE_SIZE);
	CHECK_EQ(mm_mmap(env.mm, 0, 2 * PAGE_SIZE, RW, 0, &d), 0);
	CHECK_EQ(d, a + PAGE_SIZE);
	/* A hint is taken if it can be, and otherwise forgotten. */
	CHECK_EQ(mm_mmap(env.mm, 0x1000000, PAGE_SIZE, RW, 0, &d), 0);
	CHECK_EQ(d, 0x1000000);
	CHECK_EQ(mm_mmap(env.mm, 0x1000000, PAGE_SIZE, RW, 0, &d), 0);
	CHECK_EQ(d, c - PAGE_SIZE);
	/* Grow with MAYMOVE when something is in the way. */
	CHECK_EQ(mm_write64(env.mm, b, 42), 0 - 14); /* read only */
	CHECK_EQ(mm_write64(env.mm, d, 42), 0);
	CHECK_EQ(mm_mmap(env.mm, 0x2000000, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_mmap(env.mm, 0x2001000, PAGE_SIZE, TAIN_PROT_READ, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(env.mm, 0x2000000, 43), 0);
	CHECK_EQ(mm_mremap(env.mm, 0x2000000, PAGE_SIZE, 3 * PAGE_SIZE, 0, 0, &a), -ENOMEM);
	CHECK_EQ(mm_mremap(env.mm, 0x2000000, PAGE_SIZE, 3 * PAGE_SIZE, TAIN_MREMAP_MAYMOVE, 0, &a), 0);
	CHECK_NE(a, 0x2000000);
	CHECK_EQ(env_word(&env, a), 43);
	CHECK(!vma_lookup(env.mm, 0x2000000));
	env_fini(&env);
}

const struct test_case mm_op_tests[] = { TEST(pictures), TEST(pictures_untouched), TEST(protect_entries),
					 TEST(placement), TEST_END };
