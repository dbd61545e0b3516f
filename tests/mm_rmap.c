/* SPDX-License-Identifier: MIT */
/* The reverse map: its trees, who shares an anon_vma, and migration through it. */
#include <string.h>

#include "tests/mm_env.h"

#define NODES 200u

/* Against an array: insert, remove, and every range of a small space asked for. */
static void tree_model(void)
{
	static struct rmap_node nodes[NODES];
	struct rmap_node *root = NULL;
	bool in[NODES] = { false };
	struct rng rng;

	rng_seed(&rng, 7);
	for (unsigned int turn = 0; turn < TEST_SCALE(5000u) && !test_failures(); turn++) {
		u64 i = rng_below(&rng, NODES), first = rng_below(&rng, 60), last = first + rng_below(&rng, 8);
		struct rmap_node *node = NULL;
		u64 expected = 0, found = 0;

		if (in[i]) {
			rmap_tree_remove(&root, &nodes[i]);
		} else {
			nodes[i].first = rng_below(&rng, 60);
			nodes[i].last = nodes[i].first + rng_below(&rng, 10);
			rmap_tree_insert(&root, &nodes[i]);
		}
		in[i] = !in[i];
		for (unsigned int n = 0; n < NODES; n++)
			expected += in[n] && nodes[n].first <= last && nodes[n].last >= first;
		while ((node = rmap_tree_next(root, node, first, last))) {
			CHECK(in[node - nodes] && node->first <= last && node->last >= first);
			found++;
		}
		CHECK_EQ(found, expected);
	}
	rmap_tree_check(root);
}

static struct anon_vma *anon_at(struct env *env, u64 page)
{
	struct vm_area_struct *vma = vma_lookup(env->mm, env_addr(env, page));

	return vma ? vma_anon(vma) : NULL;
}

/* A split, a move, a change of rights and a merge keep it; a VMA that was never touched has none. */
static void anon_vma_stays(void)
{
	struct anon_vma *a;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, 6 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK(!anon_at(&env, 0));
	CHECK_EQ(mm_write64(env.mm, env_addr(&env, 2), 1), 0);
	a = anon_at(&env, 0);
	CHECK(a);
	CHECK_EQ(mm_mprotect(env.mm, env_addr(&env, 2), 2 * PAGE_SIZE, TAIN_PROT_READ), 0);
	CHECK_EQ(READ_ONCE(a->refs), 3);
	CHECK_PTR_EQ(anon_at(&env, 2), a);
	CHECK_EQ(mm_mremap(env.mm, env_addr(&env, 2), PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
			   env_addr(&env, 10), NULL),
		 0);
	CHECK_PTR_EQ(anon_at(&env, 10), a);
	CHECK_EQ(env_page(&env, env_addr(&env, 10))->index, env_addr(&env, 2) >> PAGE_SHIFT);
	mm_check(env.mm);
	CHECK_EQ(mm_mprotect(env.mm, env_addr(&env, 3), PAGE_SIZE, RW), 0);
	CHECK_EQ(READ_ONCE(a->refs), 3); /* 0..1, 3..5, 10 */
	CHECK_EQ(mm_munmap(env.mm, env.base, 6 * PAGE_SIZE), 0);
	CHECK_EQ(READ_ONCE(a->refs), 1);
	mm_check(env.mm);
	env_fini(&env);
}

/* Neighbours that could be one some day share; others do not. */
static void neighbours_share(void)
{
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_mmap(env.mm, env_addr(&env, 1), PAGE_SIZE, TAIN_PROT_READ, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_mmap(env.mm, env_addr(&env, 3), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	for (u64 page = 0; page < 4; page++)
		mm_populate(env.mm, env_addr(&env, page), PAGE_SIZE);
	CHECK(anon_at(&env, 0) && anon_at(&env, 3));
	CHECK_PTR_EQ(anon_at(&env, 0), anon_at(&env, 1));
	CHECK(anon_at(&env, 0) != anon_at(&env, 3));
	mm_check(env.mm);
	env_fini(&env);
}

static void migrate_pictures(void)
{
	char contents[ENV_TEXT], picture[ENV_TEXT];
	struct mm_migrate_stats stats = { 0 };
	struct page *before[20], *held;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WWWWRRRR..XXNN..PPWW", true);
	for (unsigned int i = 0; i < 20; i++)
		before[i] = env_page(&env, env_addr(&env, i));
	held = before[5];
	get_page(held);
	CHECK_EQ(mm_migrate(env.mm, env.base, 20 * PAGE_SIZE, &stats), 0);
	env_contents(&env, 20, contents);
	env_picture(&env, 20, picture);
	CHECK_STR(contents, "abcdefgh..klmn..qrst");
	CHECK_STR(picture, "WWWWRRRR..XXNN..PPWW");
	CHECK_EQ(stats.moved, 13);
	CHECK_EQ(stats.pinned, 1);
	CHECK_EQ(stats.absent, 6);
	for (unsigned int i = 0; i < 20; i++)
		CHECK_EQ(before[i] == env_page(&env, env_addr(&env, i)), strchr(".P", picture[i]) || i == 5);
	put_page(held);
	mm_check(env.mm);
	CHECK_EQ(mm_migrate(env.mm, env_addr(&env, 5), PAGE_SIZE, NULL), 0);
	CHECK(held != env_page(&env, env_addr(&env, 5)));
	CHECK_EQ(mm_migrate(env.mm, env.base + 1, PAGE_SIZE, NULL), -EINVAL);
	CHECK_EQ(mm_migrate(env.mm, env.base, 0, NULL), -EINVAL);
	env_fini(&env);
}

/* What the host touched is young, until somebody forgets it. */
static void aging(void)
{
	struct env env;
	u64 young = 99;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WWWW..NNPP", true);
	CHECK_EQ(mm_test_young(env.mm, env.base, 10 * PAGE_SIZE, &young), 0);
	CHECK_EQ(young, 6); /* special pages have no age */
	CHECK_EQ(mm_clear_young(env.mm, env.base, 2 * PAGE_SIZE, false, &young), 0);
	CHECK_EQ(young, 2);
	CHECK_EQ(mm_clear_young(env.mm, env.base, 10 * PAGE_SIZE, true, &young), 0);
	CHECK_EQ(young, 4);
	CHECK_EQ(mm_test_young(env.mm, env.base, 10 * PAGE_SIZE, &young), 0);
	CHECK_EQ(young, 0);
	CHECK_EQ(mm_write64(env.mm, env.base, 7), 0);
	CHECK_EQ(mm_test_young(env.mm, env.base, 10 * PAGE_SIZE, &young), 0);
	CHECK_EQ(young, 1);
	CHECK_EQ(mm_test_young(env.mm, env.base, 1, &young), -EINVAL);
	CHECK_EQ(mm_test_young(env.mm, env.base, PAGE_SIZE, NULL), -EINVAL);
	CHECK_EQ(mm_clear_young(env.mm, env.base, 0, true, &young), -EINVAL);
	env_fini(&env);
}

#define THREAD_PAGES 16u

struct shared {
	struct env env;
	u32 stop;
	u64 moved; /* pages so far, for the main thread to read */
};

static void migrate_all(void *arg)
{
	struct mm_migrate_stats stats = { 0 };
	struct shared *s = arg;

	while (!READ_ONCE(s->stop)) {
		CHECK_EQ(mm_migrate(s->env.mm, s->env.base, 2 * THREAD_PAGES * PAGE_SIZE, &stats), 0);
		WRITE_ONCE(s->moved, stats.moved);
	}
}

/* What was written is read, wherever the page is by then, and wherever its mapping has moved. */
static void migrate_beside_writers(void)
{
	struct shared s = { 0 };
	struct thread thread;
	u64 values[THREAD_PAGES] = { 0 };
	struct rng rng;
	u64 at = 0;

	if (!env_init(&s.env, ENV_BASE_LEAF))
		return;
	rng_seed(&rng, 3);
	CHECK_EQ(mm_mmap(s.env.mm, s.env.base, THREAD_PAGES * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	REQUIRE_EQ(thread_create(&thread, "migrate", -1, migrate_all, &s), 0);
	for (u64 turn = 1; !test_failures(); turn++) {
		u64 page = rng_below(&rng, THREAD_PAGES), value = 0;

		CHECK_EQ(mm_read64(s.env.mm, env_addr(&s.env, at + page), &value), 0);
		CHECK_EQ(value, values[page]);
		values[page] = turn;
		CHECK_EQ(mm_write64(s.env.mm, env_addr(&s.env, at + page), turn), 0);
		if (turn % 64 == 0) { /* there and back */
			CHECK_EQ(mm_mremap(s.env.mm, env_addr(&s.env, at), THREAD_PAGES * PAGE_SIZE,
					   THREAD_PAGES * PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
					   env_addr(&s.env, THREAD_PAGES - at), NULL),
				 0);
			at = THREAD_PAGES - at;
		}
		if (turn >= TEST_SCALE(20000u) && READ_ONCE(s.moved) > 100)
			break;
	}
	WRITE_ONCE(s.stop, 1);
	thread_join(&thread);
	env_fini(&s.env);
}

#if CHECKING
static void migrate_runs_out(void)
{
	struct mm_migrate_stats stats = { 0 };
	char contents[ENV_TEXT];
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WWWW", true);
	frame_fail_after(3);
	CHECK_EQ(mm_migrate(env.mm, env.base, 4 * PAGE_SIZE, &stats), -ENOMEM);
	frame_fail_after(0);
	CHECK_EQ(stats.moved, 2);
	env_contents(&env, 4, contents);
	CHECK_STR(contents, "abcd");
	thread_signal_note();
	CHECK_EQ(mm_migrate(env.mm, env.base, 4 * PAGE_SIZE, &stats), -EINTR);
	thread_signal_clear();
	CHECK_EQ(stats.moved, 2);
	/* The first fault of a VMA needs an anon_vma. */
	CHECK_EQ(mm_mmap(env.mm, env_addr(&env, 6), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	mem_fail_after(1);
	CHECK_EQ(mm_write64(env.mm, env_addr(&env, 6), 1), -ENOMEM);
	mem_fail_after(0);
	CHECK(!anon_at(&env, 6));
	CHECK_EQ(mm_write64(env.mm, env_addr(&env, 6), 1), 0);
	env_fini(&env);
}

struct first {
	struct thread thread;
	struct env *env;
	int err;
};

static void first_touch(void *arg)
{
	struct first *f = arg;

	f->err = mm_write64(f->env->mm, f->env->base, 1);
}

/*
 *   T1                                  main
 *   fault: makes anon_vma A
 *                                       fault on the same VMA: makes B, sets it
 *   lock A: the VMA has B; A goes
 *   page->mapping = B
 */
static void anon_vma_loses(void)
{
	struct race_gate gate;
	struct first t1;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	CHECK_EQ(mm_mmap(env.mm, env.base, 2 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	t1 = (struct first){ .env = &env };
	race_arm(&gate, "anon_vma_prepare:before_lock", 1);
	REQUIRE_EQ(thread_create(&t1.thread, "toucher", -1, first_touch, &t1), 0);
	race_wait(&gate);
	CHECK_EQ(mm_write64(env.mm, env_addr(&env, 1), 2), 0);
	race_release(&gate);
	thread_join(&t1.thread);
	race_disarm(&gate);
	CHECK_EQ(t1.err, 0);
	CHECK_PTR_EQ(env_page(&env, env.base)->mapping, env_page(&env, env_addr(&env, 1))->mapping);
	mm_check(env.mm);
	env_fini(&env);
}

static void migrate_one(void *arg)
{
	struct first *f = arg;

	f->err = mm_migrate(f->env->mm, f->env->base, PAGE_SIZE, NULL);
}

/*
 *   T1                                  main
 *   migrate: holds the page
 *                                       munmap: the entry, the VMA, its anon_vma go
 *   its object: nobody maps it; lets go
 */
static void migrate_loses_to_munmap(void)
{
	struct race_gate gate;
	struct first t1;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	env_draw(&env, "WW", true);
	t1 = (struct first){ .env = &env };
	race_arm(&gate, "mm_migrate:before_lock", 1);
	REQUIRE_EQ(thread_create(&t1.thread, "migrate", -1, migrate_one, &t1), 0);
	race_wait(&gate);
	CHECK_EQ(mm_munmap(env.mm, env.base, 2 * PAGE_SIZE), 0);
	rcu_barrier();
	race_release(&gate);
	thread_join(&t1.thread);
	race_disarm(&gate);
	CHECK_EQ(t1.err, 0);
	env_fini(&env);
}

#define CHECKING_TESTS TEST(migrate_runs_out), TEST(anon_vma_loses), TEST(migrate_loses_to_munmap),
#else
#define CHECKING_TESTS
#endif

const struct test_case mm_rmap_tests[] = { TEST(tree_model),	   TEST(anon_vma_stays), TEST(neighbours_share),
					   TEST(migrate_pictures), TEST(aging),		 TEST(migrate_beside_writers),
					   CHECKING_TESTS TEST_END };
