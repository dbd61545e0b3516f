/* SPDX-License-Identifier: MIT */
/* The VMA tree: against an array of pages, against memory that runs out, and under readers without a lock. */
#include "tests/mm_env.h"

#define PAGES 512u
#define BASE 0x10000000ull

/* The array: attributes of each page, 0 for a hole. Equal neighbours with continuing pgoff are one VMA. */
struct model {
	u64 flags[PAGES];
	u64 pgoff[PAGES];
};

static bool same_vma(const struct model *m, unsigned int i)
{
	return m->flags[i] && m->flags[i] == m->flags[i - 1] && m->pgoff[i] == m->pgoff[i - 1] + 1;
}

static void compare(struct mm_struct *mm, const struct model *m)
{
	u32 vmas = 0;

	for (unsigned int i = 0; i < PAGES; i++) {
		hva_t addr = BASE + i * PAGE_SIZE;
		struct vm_area_struct *vma = vma_lookup(mm, addr);
		bool first = !i || !same_vma(m, i);

		if (!CHECK_EQ(!vma, !m->flags[i]))
			return;
		if (!vma)
			continue;
		vmas += first;
		CHECK_EQ(vma->flags, m->flags[i]);
		CHECK_EQ(vma_attr_at(vma, addr).pgoff, m->pgoff[i]);
		CHECK_EQ(vma->start == addr, first);
		if (test_failures())
			return;
	}
	CHECK_EQ(mm->vmas.count, vmas);
}

static hva_t naive_gap(const struct model *m, unsigned int pages)
{
	for (unsigned int end = PAGES; end >= pages; end--) {
		unsigned int i = end - pages;

		while (i < end && !m->flags[i])
			i++;
		if (i == end)
			return BASE + (end - pages) * PAGE_SIZE;
	}
	return (hva_t)-1;
}

static void one_change(struct mm_struct *mm, struct model *m, struct rng *rng)
{
	unsigned int page = (unsigned int)rng_below(rng, PAGES);
	unsigned int pages = 1 + (unsigned int)rng_below(rng, min(PAGES - page, rng_below(rng, 8) ? 4u : PAGES));
	bool hole = !rng_below(rng, 3);
	struct vma_attr attr = { .flags = 1 + rng_below(rng, 3), .pgoff = page + (rng_below(rng, 16) ? 0 : 1000) };
	struct vma_txn txn;

	vma_txn_begin(&txn, mm);
	CHECK_EQ(vma_txn_replace(&txn, BASE + page * PAGE_SIZE, BASE + (page + pages) * PAGE_SIZE, hole ? NULL : &attr),
		 0);
	if (!rng_below(rng, 8)) {
		vma_txn_abort(&txn); /* changes nothing */
		return;
	}
	vma_txn_commit(&txn);
	vma_txn_finish(&txn);
	for (unsigned int i = 0; i < pages; i++) {
		m->flags[page + i] = hole ? 0 : attr.flags;
		m->pgoff[page + i] = attr.pgoff + i;
	}
}

static void random_changes(void)
{
	struct env env;

	if (!env_init(&env, BASE))
		return;
	for (u64 seed = 1; seed <= 3; seed++) {
		struct model m = { 0 };
		struct vma_txn txn;
		struct rng rng;

		rng_seed(&rng, seed);
		vma_txn_begin(&txn, env.mm);
		vma_txn_replace(&txn, 0, TAIN_TASK_SIZE, NULL);
		vma_txn_commit(&txn);
		vma_txn_finish(&txn);
		for (unsigned int turn = 0; turn < TEST_SCALE(3000u) && !test_failures(); turn++) {
			unsigned int pages = 1 + (unsigned int)rng_below(&rng, 8);

			one_change(env.mm, &m, &rng);
			CHECK_EQ(vma_node_check(env.mm->vmas.root), env.mm->vmas.count);
			if (turn % 16 == 0)
				compare(env.mm, &m);
			CHECK_EQ(vma_find_gap(env.mm->vmas.root, pages * PAGE_SIZE, BASE, BASE + PAGES * PAGE_SIZE),
				 naive_gap(&m, pages));
		}
		compare(env.mm, &m);
	}
	env_fini(&env);
}

/* Many: the tree stays low, and everything is found. */
static void many(void)
{
	u32 n = TEST_SCALE(20000u);
	struct env env;

	if (!env_init(&env, BASE))
		return;
	for (u32 i = 0; i < n; i++) {
		/* In an order that is neither up nor down. */
		hva_t addr = BASE + (u64)((i * 7919ull) % n) * 2 * PAGE_SIZE;

		if (!CHECK_EQ(mm_mmap(env.mm, addr, PAGE_SIZE, RW, TAIN_MAP_FIXED_NOREPLACE, NULL), 0))
			break;
	}
	CHECK_EQ(env.mm->vmas.count, n);
	CHECK_LE(env.mm->vmas.root->height, 22);
	CHECK_EQ(vma_node_check(env.mm->vmas.root), n);
	CHECK_EQ(mm_munmap(env.mm, BASE, (size_t)n * 2 * PAGE_SIZE), 0);
	CHECK_EQ(env.mm->vmas.count, 0);
	env_fini(&env);
}

/* As many as are allowed, and what is refused then: more VMAs. Fewer or as many are fine. */
static void map_count(void)
{
	struct env env;
	u32 max;

	if (!env_init(&env, BASE))
		return;
	max = env.mm->max_map_count = 8;
	for (u32 i = 0; i < max; i++)
		CHECK_EQ(mm_mmap(env.mm, BASE + i * 4 * PAGE_SIZE, 3 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_mmap(env.mm, BASE + max * 4 * PAGE_SIZE, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), -ENOMEM);
	CHECK_EQ(mm_munmap(env.mm, BASE + PAGE_SIZE, PAGE_SIZE), -ENOMEM); /* two of one */
	CHECK_EQ(mm_mprotect(env.mm, BASE, PAGE_SIZE, TAIN_PROT_READ), -ENOMEM);
	CHECK_EQ(env.mm->vmas.count, max);
	CHECK_EQ(mm_munmap(env.mm, BASE, PAGE_SIZE), 0);
	CHECK_EQ(mm_mmap(env.mm, BASE + 3 * PAGE_SIZE, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0); /* joins two */
	CHECK_EQ(env.mm->vmas.count, max - 1);
	env_fini(&env);
}

#if CHECKING
/* Memory runs out at the 1st, 2nd ... allocation of a change: the tree is as it was, nothing is lost. */
static void tree_runs_out(void)
{
	const struct vma_attr attr = { .flags = 5, .pgoff = 77 };
	struct env env;

	if (!env_init(&env, BASE))
		return;
	for (u32 i = 0; i < 60; i++)
		CHECK_EQ(mm_mmap(env.mm, BASE + i * 4 * PAGE_SIZE, 2 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	for (u64 n = 1; n < 1000; n++) {
		struct vma_node *root = env.mm->vmas.root;
		struct vma_txn txn;
		int err;

		mem_fail_after(n);
		vma_txn_begin(&txn, env.mm);
		err = vma_txn_replace(&txn, BASE + 81 * PAGE_SIZE, BASE + 121 * PAGE_SIZE, &attr);
		if (!err)
			err = vma_txn_replace(&txn, BASE + 9 * PAGE_SIZE, BASE + 40 * PAGE_SIZE, NULL);
		CHECK_EQ(err, mem_failed() ? -ENOMEM : 0);
		mem_fail_after(0);
		vma_txn_abort(&txn);
		CHECK_PTR_EQ(env.mm->vmas.root, root);
		CHECK_EQ(vma_node_check(root), 60);
		if (!err)
			break;
	}
	env_fini(&env);
}
#endif

/*
 * Readers in an RCU section, no lock: addresses that are mapped all the time are found
 * all the time, in a VMA that holds them, while a writer splits, joins and replaces.
 *
 *   reader                              writer
 *   ------                              ------
 *   root r0                             builds r1 from copies; publishes; call_rcu(r0's own nodes)
 *   walks r0: whole, old                ...
 *   unlock                              freed now
 */
struct lookers {
	struct env *env;
	u32 stop;
	u64 found, missed;
};

static void look(void *arg)
{
	struct lookers *l = arg;
	struct rng rng;

	rng_seed(&rng, thread_id());
	while (!READ_ONCE(l->stop)) {
		u64 page = rng_below(&rng, 64);
		hva_t addr = BASE + page * PAGE_SIZE;
		struct vm_area_struct *vma;

		rcu_read_lock();
		vma = find_vma(l->env->mm, addr);
		if (vma && vma->start <= addr && addr < vma->end && vma->mm == l->env->mm)
			__atomic_fetch_add(&l->found, 1, __ATOMIC_RELAXED);
		else
			__atomic_fetch_add(&l->missed, 1, __ATOMIC_RELAXED);
		rcu_read_unlock();
	}
}

static void lockless_lookup(void)
{
	struct lookers l = { 0 };
	struct thread threads[2];
	struct env env;
	struct rng rng;

	if (!env_init(&env, BASE))
		return;
	if (!mm_defers(env.mm)) {
		test_skip("policy %s has no lockless readers in this build", env.mm->policy->name);
		env_fini(&env);
		return;
	}
	l.env = &env;
	rng_seed(&rng, 9);
	CHECK_EQ(mm_mmap(env.mm, BASE, 64 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		REQUIRE_EQ(thread_create(&threads[i], "looker", -1, look, &l), 0);
	for (unsigned int turn = 0; turn < TEST_SCALE(10000u) || !READ_ONCE(l.found); turn++) {
		u64 page = rng_below(&rng, 64), pages = 1 + rng_below(&rng, 64 - page);

		CHECK_EQ(mm_mprotect(env.mm, BASE + page * PAGE_SIZE, pages * PAGE_SIZE, (int)rng_below(&rng, 4)), 0);
	}
	WRITE_ONCE(l.stop, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		thread_join(&threads[i]);
	CHECK_EQ(l.missed, 0);
	CHECK_GT(l.found, 0);
	env_fini(&env);
}

const struct test_case mm_vma_tests[] = { TEST(random_changes),	 TEST(many), TEST(map_count),
#if CHECKING
					  TEST(tree_runs_out),
#endif
					  TEST(lockless_lookup), TEST_END };
