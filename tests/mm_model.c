/* SPDX-License-Identifier: MIT */
/*
 * Random operations on the real thing and on a naive one: an array of pages, each
 * with its rights, its value, and the number that tells which mapping it belongs to.
 */
#include <string.h>

#include "tests/mm_env.h"

#define PAGES 64u

struct model_page {
	bool mapped;
	int prot;
	u64 pgoff; /* two neighbours are one VMA if rights are equal and this continues */
	u64 value;
};

struct model {
	struct env env;
	struct model_page page[PAGES];
	struct rng rng;
	u64 next_value;
	u32 done[9]; /* operations that succeeded, by kind */
};

static hva_t addr_of(const struct model *m, unsigned int page)
{
	return m->env.base + page * PAGE_SIZE;
}

/*
 * Two neighbours that were touched while they were apart may have different anon_vmas,
 * and then stay two. Not modelled: the real thing is asked.
 */
static bool kept_apart(const struct model *m, unsigned int page)
{
	struct vm_area_struct *left = vma_lookup(m->env.mm, addr_of(m, page - 1));
	struct vm_area_struct *right = vma_lookup(m->env.mm, addr_of(m, page));

	return left && right && !anon_vma_compatible(vma_anon(left), vma_anon(right));
}

/* Is [page, page + n) one VMA? */
static bool one_vma(const struct model *m, unsigned int page, unsigned int n)
{
	for (unsigned int i = page; i < page + n; i++) {
		const struct model_page *p = &m->page[i];

		if (!p->mapped)
			return false;
		if (i > page && (p->prot != p[-1].prot || p->pgoff != p[-1].pgoff + 1 || kept_apart(m, i)))
			return false;
	}
	return true;
}

static void forget(struct model *m, unsigned int page, unsigned int n)
{
	memset(&m->page[page], 0, n * sizeof(m->page[0]));
}

static void pick(struct model *m, unsigned int *page, unsigned int *n)
{
	*page = (unsigned int)rng_below(&m->rng, PAGES);
	*n = 1 + (unsigned int)rng_below(&m->rng, min(PAGES - *page, rng_below(&m->rng, 4) ? 6u : PAGES));
}

static int random_prot(struct model *m)
{
	return rng_below(&m->rng, 2) ? RW : (int)rng_below(&m->rng, 8);
}

static void do_mmap(struct model *m)
{
	bool noreplace = !rng_below(&m->rng, 4), populate = !rng_below(&m->rng, 4);
	int prot = random_prot(m), expected = 0;
	unsigned int page, n;

	pick(m, &page, &n);
	for (unsigned int i = page; i < page + n; i++)
		expected = noreplace && m->page[i].mapped ? -EEXIST : expected;
	CHECK_EQ(mm_mmap(m->env.mm, addr_of(m, page), n * PAGE_SIZE, prot,
			 (noreplace ? TAIN_MAP_FIXED_NOREPLACE : TAIN_MAP_FIXED) | (populate ? TAIN_MAP_POPULATE : 0),
			 NULL),
		 expected);
	for (unsigned int i = page; i < page + n && !expected; i++)
		m->page[i] = (struct model_page){ true, prot, addr_of(m, i) >> PAGE_SHIFT, 0 };
	m->done[0] += !expected;
}

static void do_munmap(struct model *m)
{
	unsigned int page, n;

	pick(m, &page, &n);
	CHECK_EQ(mm_munmap(m->env.mm, addr_of(m, page), n * PAGE_SIZE), 0);
	forget(m, page, n);
	m->done[1]++;
}

static void do_mprotect(struct model *m)
{
	int prot = random_prot(m), expected = 0;
	unsigned int page, n;

	pick(m, &page, &n);
	for (unsigned int i = page; i < page + n; i++) {
		if (!m->page[i].mapped) {
			expected = -ENOMEM;
			break;
		}
		m->page[i].prot = prot;
	}
	CHECK_EQ(mm_mprotect(m->env.mm, addr_of(m, page), n * PAGE_SIZE, prot), expected);
	m->done[2] += !expected;
}

static void do_dontneed(struct model *m)
{
	unsigned int page, n;
	int expected = 0;

	pick(m, &page, &n);
	for (unsigned int i = page; i < page + n; i++) {
		if (!m->page[i].mapped)
			expected = -ENOMEM;
		m->page[i].value = 0;
	}
	CHECK_EQ(mm_madvise(m->env.mm, addr_of(m, page), n * PAGE_SIZE, TAIN_MADV_DONTNEED), expected);
	m->done[3] += !expected;
}

static void do_move(struct model *m)
{
	struct model_page moved[PAGES];
	unsigned int page, n, to, to_n;
	int expected = 0;
	hva_t out = 0;

	pick(m, &page, &n);
	pick(m, &to, &to_n);
	if (rng_below(&m->rng, 2))
		to_n = min(n, PAGES - to);
	if (page < to + to_n && to < page + n)
		expected = -EINVAL;
	else if (!one_vma(m, page, n))
		expected = -EFAULT;
	CHECK_EQ(mm_mremap(m->env.mm, addr_of(m, page), n * PAGE_SIZE, to_n * PAGE_SIZE,
			   TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, addr_of(m, to), &out),
		 expected);
	if (expected)
		return;
	memcpy(moved, &m->page[page], n * sizeof(moved[0]));
	forget(m, page, n);
	for (unsigned int i = 0; i < to_n; i++)
		m->page[to + i] =
			(struct model_page){ true, moved[0].prot, moved[0].pgoff + i, i < n ? moved[i].value : 0 };
	m->done[4]++;
}

static void do_resize(struct model *m)
{
	unsigned int page, n, to_n;
	int expected = 0;
	hva_t out = 0;

	pick(m, &page, &n);
	to_n = 1 + (unsigned int)rng_below(&m->rng, PAGES - page);
	if (!one_vma(m, page, n))
		expected = -EFAULT;
	else if (to_n > n && page + n < PAGES && one_vma(m, page, n + 1))
		expected = -ENOMEM; /* not the end of its mapping */
	for (unsigned int i = page + n; i < page + to_n && !expected; i++)
		expected = m->page[i].mapped ? -ENOMEM : 0;
	CHECK_EQ(mm_mremap(m->env.mm, addr_of(m, page), n * PAGE_SIZE, to_n * PAGE_SIZE, 0, 0, &out), expected);
	if (expected)
		return;
	if (to_n < n)
		forget(m, page + to_n, n - to_n);
	for (unsigned int i = page + n; i < page + to_n; i++)
		m->page[i] = (struct model_page){ true, m->page[page].prot, m->page[page].pgoff + (i - page), 0 };
	m->done[5]++;
}

static void do_write(struct model *m)
{
	unsigned int page = (unsigned int)rng_below(&m->rng, PAGES);
	struct model_page *p = &m->page[page];
	bool may = p->mapped && p->prot & TAIN_PROT_WRITE;

	CHECK_EQ(mm_write64(m->env.mm, addr_of(m, page), m->next_value), may ? 0 : -EFAULT);
	if (may)
		p->value = m->next_value++;
	m->done[6] += may;
}

static void do_read(struct model *m)
{
	unsigned int page = (unsigned int)rng_below(&m->rng, PAGES);
	struct model_page *p = &m->page[page];
	bool may = p->mapped && p->prot & TAIN_PROT_READ;
	u64 value = 0;

	CHECK_EQ(mm_read64(m->env.mm, addr_of(m, page), &value), may ? 0 : -EFAULT);
	if (may)
		CHECK_EQ(value, p->value);
	m->done[7] += may;
}

/* Other frames, the same memory. */
static void do_migrate(struct model *m)
{
	struct mm_migrate_stats stats = { 0 };
	unsigned int page, n;

	pick(m, &page, &n);
	CHECK_EQ(mm_migrate(m->env.mm, addr_of(m, page), n * PAGE_SIZE, &stats), 0);
	CHECK_EQ(stats.moved + stats.absent, n);
	m->done[8] += !!stats.moved;
}

static void (*const operations[])(struct model *m) = { do_mmap,	  do_munmap, do_mprotect, do_dontneed, do_move,
						       do_resize, do_write,  do_read,	  do_migrate };

/* Every page: is it mapped, whose is it, what may be done with it, what is in it. */
static void compare(struct model *m)
{
	mm_check(m->env.mm);
	for (unsigned int i = 0; i < PAGES; i++) {
		struct vm_area_struct *vma = vma_lookup(m->env.mm, addr_of(m, i));
		const struct model_page *p = &m->page[i];

		if (!CHECK_EQ(!!vma, p->mapped) || !vma)
			continue;
		CHECK_EQ(vma_prot(vma), p->prot);
		CHECK_EQ(vma_attr_at(vma, addr_of(m, i)).pgoff, p->pgoff);
		CHECK_EQ(env_word(&m->env, addr_of(m, i)), p->value);
	}
}

static void run(u64 seed, hva_t base, unsigned int turns)
{
	struct model m = { .next_value = 1 };

	if (!env_init(&m.env, base))
		return;
	rng_seed(&m.rng, seed);
	for (unsigned int i = 0; i < turns && !test_failures(); i++) {
		operations[rng_below(&m.rng, ARRAY_SIZE(operations))](&m);
		if (i % 8 == 0)
			compare(&m);
	}
	CHECK_MSG(!test_failures(), "seed %llu", (unsigned long long)seed);
	for (unsigned int i = 0; i < ARRAY_SIZE(m.done); i++)
		CHECK_MSG(m.done[i] > turns / 1000, "operation %u succeeded only %u times", i, m.done[i]);
	env_fini(&m.env);
}

static void inside_tables(void)
{
	for (u64 seed = 1; seed <= 4; seed++)
		run(seed, 0x50000000, 4000);
}

static void across_leaf_tables(void)
{
	for (u64 seed = 11; seed <= 14; seed++)
		run(seed, 0x40200000 - PAGES / 2 * PAGE_SIZE, 4000);
}

static void across_all_tables(void)
{
	for (u64 seed = 21; seed <= 24; seed++)
		run(seed, (1ull << 39) - PAGES / 3 * PAGE_SIZE, 4000);
}

static void at_both_ends(void)
{
	run(31, 0, 4000);
	run(32, TAIN_TASK_SIZE - PAGES * PAGE_SIZE, 4000);
}

const struct test_case mm_model_tests[] = { TEST(inside_tables), TEST(across_leaf_tables), TEST(across_all_tables),
					    TEST(at_both_ends), TEST_END };
