/* SPDX-License-Identifier: MIT */
/*
 * The operation matrix: every entry of mmu/ beside every other, on two threads, with
 * the exact audit after each pair. x: may run at the same time. S: the callers must
 * serialise (one vCPU is one thread's; a VM ends after its vCPUs).
 *
 *              fault section slot flush kick audit vcpu register release
 *   fault        x      x     x     x    x     x     x     x        x
 *   section             x     x     x    x     x     x     x        S
 *   slot                      x     x    x     x     x     x        x
 *   flush                           x    x     x     x     x        x
 *   kick                                 x     x     S     x        x
 *   audit                                      x     x     x        S
 *   vcpu add/remove                                  x     x        x
 *   register/unregister (mmu_create/destroy)               x        S
 *   release (end of the mm)                                         S
 */
#include "tests/mmu_env.h"

#define ROUNDS TEST_SCALE(60u)

struct actor {
	struct env *env;
	struct tv tv; /* its own vCPU */
	u32 seed;
	unsigned int round;
	const struct action *action;
};

struct action {
	const char *name;
	void (*fn)(struct actor *actor);
};

static u64 random_page(struct actor *actor)
{
	actor->seed = actor->seed * 1103515245 + 12345;
	return (actor->seed >> 16) % ENV_PAGES;
}

static void act_fault(struct actor *actor)
{
	u64 word;

	/* Mapped or not, slot or none: each is an answer. */
	if (actor->round % 2)
		tv_write(&actor->tv, random_page(actor), actor->round);
	else
		tv_read(&actor->tv, random_page(actor), &word);
}

static void act_section(struct actor *actor)
{
	hva_t at = env_hva(random_page(actor));

	switch (actor->round % 4) {
	case 0:
		CHECK_EQ(mm_munmap(actor->env->mm, at, PAGE_SIZE), 0);
		break;
	case 1:
		CHECK_EQ(mm_mmap(actor->env->mm, ENV_HVA, ENV_PAGES << PAGE_SHIFT, ENV_RW, TAIN_MAP_FIXED, NULL), 0);
		break;
	case 2:
		mm_madvise(actor->env->mm, at, PAGE_SIZE, TAIN_MADV_DONTNEED);
		break;
	case 3:
		mm_mprotect(actor->env->mm, at, PAGE_SIZE, actor->round % 8 == 3 ? TAIN_PROT_READ : ENV_RW);
		break;
	}
}

static void act_slot(struct actor *actor)
{
	u32 id = actor->seed & 1; /* two actors, or one: any order of these is legal */
	int ret;

	switch (actor->round % 3) {
	case 0:
		ret = mmu_set_memslot(actor->env->mmu, id, 0, 0, 0, 0);
		CHECK(ret == 0 || ret == -ENOENT);
		break;
	case 1:
		ret = mmu_set_memslot(actor->env->mmu, id, ENV_GFN, ENV_PAGES, ENV_HVA, 0);
		CHECK(ret == 0 || ret == -EEXIST);
		break;
	case 2:
		ret = mmu_set_memslot(actor->env->mmu, id, ENV_GFN + 8, ENV_PAGES - 8, ENV_HVA, 0);
		CHECK(ret == 0 || ret == -EEXIST);
		break;
	}
}

static void act_flush(struct actor *actor)
{
	mmu_flush_remote_tlbs(actor->env->mmu);
}

static void act_kick(struct actor *actor)
{
	mmu_kick(&actor->tv.vcpu);
	act_fault(actor);
}

static void act_audit(struct actor *actor)
{
	struct mmu_mismatch m = { 0 };

	if (env_audit(actor->env, &m))
		CHECK_MSG(false,
			  "audit beside another operation: gfn %#llx, mirrored %#llx, host %#llx, tlb %d, rights %d",
			  (unsigned long long)m.gfn, (unsigned long long)m.mirrored, (unsigned long long)m.host, m.tlb,
			  m.rights);
}

static void act_vcpu(struct actor *actor)
{
	struct tv guest;
	u64 word;

	tv_init(&guest, actor->env, 9);
	tv_read(&guest, random_page(actor), &word);
	tv_fini(&guest);
}

static void act_register(struct actor *actor)
{
	struct mmu *mmu;

	if (actor->round % 4)
		return;
	if (CHECK_EQ(mmu_create(actor->env->mm, "ept", &mmu), 0)) {
		CHECK_EQ(mmu_set_memslot(mmu, 0, 0, ENV_PAGES, ENV_HVA, 0), 0);
		mmu_destroy(mmu);
	}
}

static const struct action actions[] = {
	{ "fault", act_fault }, { "section", act_section }, { "slot", act_slot }, { "flush", act_flush },
	{ "kick", act_kick },	{ "audit", act_audit },	    { "vcpu", act_vcpu }, { "register", act_register },
};

static void act(void *arg)
{
	struct actor *actor = arg;

	for (actor->round = 0; actor->round < ROUNDS; actor->round++)
		actor->action->fn(actor);
}

static void run_pair(const struct action *first, const struct action *second)
{
	struct mmu_mismatch m = { 0 };
	struct actor actor[2] = { 0 };
	struct thread thread[2];
	struct env env;
	unsigned int i;

	REQUIRE(env_init(&env));
	for (i = 0; i < 2; i++) {
		actor[i].env = &env;
		actor[i].seed = i;
		actor[i].action = i ? second : first;
		tv_init(&actor[i].tv, &env, i);
	}
	for (i = 0; i < 2; i++)
		CHECK_EQ(thread_create(&thread[i], actor[i].action->name, -1, act, &actor[i]), 0);
	for (i = 0; i < 2; i++)
		thread_join(&thread[i]);
	CHECK_MSG(!env_audit(&env, &m), "%s beside %s: gfn %#llx, mirrored %#llx, host %#llx, tlb %d, rights %d",
		  first->name, second->name, (unsigned long long)m.gfn, (unsigned long long)m.mirrored,
		  (unsigned long long)m.host, m.tlb, m.rights);
	CHECK_EQ(frame_arena_verify(env.arena), 0);
	for (i = 0; i < 2; i++)
		tv_fini(&actor[i].tv);
	env_fini(&env);
}

static void every_pair(void)
{
	size_t a, b;

	for (a = 0; a < ARRAY_SIZE(actions); a++) {
		for (b = a; b < ARRAY_SIZE(actions); b++)
			run_pair(&actions[a], &actions[b]);
	}
}

/* The end of the mm beside faults, flushes and slot updates of its mirror (rule N8). */
static void release_beside(const struct action *action)
{
	struct actor actor = { 0 };
	struct thread thread;
	struct mmu_stats stats;
	struct env env;
	unsigned int i;

	REQUIRE(env_init(&env));
	actor.env = &env;
	actor.action = action;
	tv_init(&actor.tv, &env, 0);
	for (i = 0; i < ENV_PAGES; i++)
		CHECK(tv_write(&actor.tv, i, i));
	CHECK_EQ(thread_create(&thread, action->name, -1, act, &actor), 0);
	mmput(env.mm); /* the mirror holds mm_count */
	thread_join(&thread);
	mmu_get_stats(env.mmu, &stats);
	CHECK_EQ(stats.mapped - stats.zapped, 0);
	tv_fini(&actor.tv);
	mmu_destroy(env.mmu);
	CHECK_EQ(frame_arena_verify(env.arena), 0);
	frame_arena_destroy(env.arena);
}

static void release_beside_others(void)
{
	release_beside(&actions[0]);
	release_beside(&actions[2]);
	release_beside(&actions[3]);
	release_beside(&actions[4]);
	release_beside(&actions[6]);
}

const struct test_case mmu_matrix_tests[] = {
	TEST(every_pair),
	TEST(release_beside_others),
	TEST_END,
};
