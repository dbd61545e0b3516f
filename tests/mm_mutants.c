/* SPDX-License-Identifier: MIT */
/*
 * Bugs of the catalogue that live in mm/: one script each, run twice. As the code
 * stands it passes; with the bug put back it is noticed, at the same place every time.
 */
#include <string.h>

#include "mm/lock_all.h"
#include "tests/mm_env.h"

#if CHECKING

/* A mirror of one page: what it holds it uses, until it is told. */
struct mirror {
	struct mmu_notifier notifier;
	struct page *page; /* without a reference, as KVM */
	u32 told;
};

static int mirror_start(struct mmu_notifier *subscription, const struct mmu_notifier_range *range)
{
	struct mirror *m = container_of(subscription, struct mirror, notifier);

	m->page = NULL;
	m->told++;
	return 0;
}

static void mirror_secondary(struct mmu_notifier *subscription, struct notifier_mm *mm, hva_t start, hva_t end)
{
	mirror_start(subscription, NULL);
}

static const struct mmu_notifier_ops mirror_ops = { .invalidate_range_start = mirror_start };
static const struct mmu_notifier_ops device_ops = { .arch_invalidate_secondary_tlbs = mirror_secondary };

static void mirror_fault(struct mirror *m, struct env *env)
{
	struct mm_fault fault;

	CHECK_EQ(mm_fault_in(env->mm, env->base, MM_WRITE, &fault), 0);
	m->page = fault.page;
	put_page(fault.page);
}

/* Would it write to a frame that is somebody else's? */
static bool mirror_is_stale(const struct mirror *m)
{
	return m->page && (!page_count(m->page) || !m->page->mapcount);
}

static bool mutant_env(struct env *env, struct mirror *m, const struct mmu_notifier_ops *ops)
{
	*m = (struct mirror){ .notifier.ops = ops };
	return env_init(env, ENV_BASE_LEAF);
}

/* Without the mutant, and with it. */
static void twice(const char *name, void (*script)(bool bug))
{
	script(false);
	CHECK_EQ(mutant_set(name), 0);
	script(true);
	CHECK_EQ(mutant_set(NULL), 0);
}

static char report[4096];

static void note_report(const char *text)
{
	strncat(report, text, sizeof(report) - strlen(report) - 2);
	strcat(report, "\n");
}

struct worker {
	struct thread thread;
	struct env *env;
	struct mm_file *file;
	struct mirror *mirror;
	u32 done;
};

static void truncate_all(void *arg)
{
	struct worker *w = arg;

	CHECK_EQ(mm_file_truncate(w->file, 0), 0);
}

static void register_and_fault(void *arg)
{
	struct worker *w = arg;
	struct mm_fault fault;

	CHECK_EQ(mmu_notifier_register(&w->mirror->notifier, mm_notifier(w->env->mm)), 0);
	if (!mm_fault_in(w->env->mm, w->env->base, MM_WRITE, &fault)) {
		w->mirror->page = fault.page;
		put_page(fault.page);
	}
	smp_store_release(&w->done, 1); /* pairs with the acquire in admission() */
}

/*
 * Catalogue 1.
 *
 *   T1                                        T2
 *   truncate: i_mmap lock; section start:
 *   nobody to tell
 *                                             register: waits for the i_mmap lock
 *                                             (or does not)
 *                                             fault: the page, for its entry is still there
 *   clear, end, free
 *                                             the translation is of a free frame
 */
static void admission(bool bug)
{
	struct worker t1, t2;
	struct mm_file *file;
	struct race_gate gate;
	struct mirror m;
	struct env env;

	if (!mutant_env(&env, &m, &mirror_ops))
		return;
	REQUIRE_EQ(mm_file_create(env.arena, PAGE_SIZE, &file), 0);
	CHECK_EQ(mm_mmap_file(env.mm, env.base, PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_SHARED, file, 0, NULL), 0);
	CHECK_EQ(mm_write64(env.mm, env.base, 1), 0);
	t1 = (struct worker){ .env = &env, .file = file };
	t2 = (struct worker){ .env = &env, .mirror = &m };
	report[0] = '\0';
	lockdep_set_report(note_report);
	race_arm(&gate, "mm_truncate:after_start", 1);
	REQUIRE_EQ(thread_create(&t1.thread, "truncate", -1, truncate_all, &t1), 0);
	race_wait(&gate);
	REQUIRE_EQ(thread_create(&t2.thread, "register", -1, register_and_fault, &t2), 0);
	if (bug)
		thread_join(&t2.thread);
	for (unsigned int turn = 0; turn < 100; turn++)
		thread_yield();
	CHECK_EQ(smp_load_acquire(&t2.done), bug);
	race_release(&gate);
	thread_join(&t1.thread);
	if (!bug)
		thread_join(&t2.thread);
	race_disarm(&gate);
	lockdep_set_report(NULL);
	if (bug)
		CHECK_CONTAINS(report, "became visible in an open section (rule N3)");
	else
		CHECK_STR(report, "");
	CHECK_EQ(mirror_is_stale(&m), bug);
	CHECK_EQ(mmu_notifier_unregister(&m.notifier, mm_notifier(env.mm)), 0);
	mm_file_put(file);
	env_fini(&env);
}

static void n3_registration_takes_rmap_locks(void)
{
	twice("n3-no-rmap-locks", admission);
}

static int take_and_drop(struct mm_struct *mm)
{
	struct mm_range range = mm_write_begin(mm, 0, TAIN_TASK_SIZE);
	int err = mm_take_all_locks(mm);

	if (!err)
		mm_drop_all_locks(mm);
	mm_write_end(&range);
	return err;
}

/* Catalogue 3: anon_vmas A B A in three VMAs; A is next to itself when sorted. */
static void sorted_duplicates(bool bug)
{
	struct mm_options options = { .mm_lock = "sorted" };
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	mmput(env.mm);
	REQUIRE_EQ(mm_create_with(env.arena, &options, &env.mm), 0);
	CHECK_EQ(mm_mmap(env.mm, env.base, 3 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_mmap(env.mm, env_addr(&env, 8), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(env.mm, env.base, 1), 0);
	CHECK_EQ(mm_write64(env.mm, env_addr(&env, 8), 1), 0);
	CHECK_EQ(mm_mremap(env.mm, env_addr(&env, 8), PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
			   env_addr(&env, 1), NULL),
		 0);
	CHECK_EQ(env.mm->vmas.count, 3);
	report[0] = '\0';
	lockdep_set_report(note_report);
	CHECK_EQ(take_and_drop(env.mm), 0);
	lockdep_set_report(NULL);
	if (bug)
		CHECK_CONTAINS(report, "lock recursion: anon_vma");
	else
		CHECK_STR(report, "");
	env_fini(&env);
}

static void n4_sorted_compares_values(void)
{
	twice("n4-compare-slots", sorted_duplicates);
}

/* Catalogue 4: an anonymous VMA below one of a file, so that one pass meets the anon_vma first. */
static void passes(bool bug)
{
	struct mm_file *file;
	struct env env;

	if (!env_init(&env, ENV_BASE_LEAF))
		return;
	REQUIRE_EQ(mm_file_create(env.arena, PAGE_SIZE, &file), 0);
	CHECK_EQ(mm_mmap(env.mm, env.base, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(env.mm, env.base, 1), 0);
	CHECK_EQ(
		mm_mmap_file(env.mm, env_addr(&env, 1), PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_SHARED, file, 0, NULL),
		0);
	report[0] = '\0';
	lockdep_set_report(note_report);
	CHECK_EQ(take_and_drop(env.mm), 0);
	lockdep_set_report(NULL);
	if (bug)
		CHECK_CONTAINS(report, "lock order inversion: anon_vma, i_mmap");
	else
		CHECK_STR(report, "");
	mm_file_put(file);
	CHECK_EQ(mutant_set(NULL), 0); /* checks below take all locks */
	env_fini(&env);
}

static void n4_one_class_a_pass(void)
{
	twice("n4-one-pass", passes);
}

/* Catalogue 11: the mirror writes to the old frame, the new one never hears of it. */
static void migration(bool bug)
{
	struct mirror m;
	struct env env;

	if (!mutant_env(&env, &m, &mirror_ops))
		return;
	env_draw(&env, "W", true);
	CHECK_EQ(mmu_notifier_register(&m.notifier, mm_notifier(env.mm)), 0);
	mirror_fault(&m, &env);
	CHECK(!mirror_is_stale(&m));
	CHECK_EQ(mm_migrate(env.mm, env.base, PAGE_SIZE, NULL), 0);
	CHECK_EQ(m.told, !bug);
	CHECK_EQ(mirror_is_stale(&m), bug);
	CHECK_EQ(mmu_notifier_unregister(&m.notifier, mm_notifier(env.mm)), 0);
	env_fini(&env);
}

static void n5_migration_is_told(void)
{
	twice("n5-migrate-untold", migration);
}

/* Catalogue 13: each operation that clears or narrows an entry tells the devices. */
static void devices(bool bug)
{
	for (unsigned int op = 0; op < 5; op++) {
		struct mirror m;
		struct env env;

		if (!mutant_env(&env, &m, &device_ops))
			return;
		env_draw(&env, "WW", true);
		CHECK_EQ(mmu_notifier_register(&m.notifier, mm_notifier(env.mm)), 0);
		mirror_fault(&m, &env);
		if (op == 0)
			CHECK_EQ(mm_madvise(env.mm, env.base, PAGE_SIZE, TAIN_MADV_DONTNEED), 0);
		else if (op == 1)
			CHECK_EQ(mm_munmap(env.mm, env.base, PAGE_SIZE), 0);
		else if (op == 2)
			CHECK_EQ(mm_mprotect(env.mm, env.base, PAGE_SIZE, TAIN_PROT_READ), 0);
		else if (op == 3)
			CHECK_EQ(mm_migrate(env.mm, env.base, PAGE_SIZE, NULL), 0);
		else
			CHECK_EQ(mm_mremap(env.mm, env.base, PAGE_SIZE, PAGE_SIZE,
					   TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, env_addr(&env, 5), NULL),
				 0);
		CHECK_MSG(!!m.page == bug, "operation %u: the device %s its translation", op,
			  m.page ? "keeps" : "has lost");
		CHECK_EQ(mmu_notifier_unregister(&m.notifier, mm_notifier(env.mm)), 0);
		env_fini(&env);
	}
}

static void n13_devices_are_told(void)
{
	twice("n13-not-told", devices);
}

static void dontneed(void *arg)
{
	struct worker *w = arg;

	CHECK_EQ(mm_madvise(w->env->mm, w->env->base, PAGE_SIZE, TAIN_MADV_DONTNEED), 0);
}

/*
 * Catalogue 14.
 *
 *   T1                                        main
 *   DONTNEED: clear; tell; unlock
 *   (or: clear; unlock)
 *                                             DONTNEED of the same: nothing there; returns
 *                                             the device must have nothing
 *   (tell)
 */
static void told_in_time(bool bug)
{
	struct race_gate gate;
	struct worker t1;
	struct mirror m;
	struct env env;

	if (!mutant_env(&env, &m, &device_ops))
		return;
	env_draw(&env, "W", true);
	CHECK_EQ(mmu_notifier_register(&m.notifier, mm_notifier(env.mm)), 0);
	mirror_fault(&m, &env);
	t1 = (struct worker){ .env = &env };
	race_arm(&gate, bug ? "gather:told_late" : "mm_unmap:after_clear", 1);
	REQUIRE_EQ(thread_create(&t1.thread, "dontneed", -1, dontneed, &t1), 0);
	race_wait(&gate);
	dontneed(&t1);
	CHECK_EQ(!!m.page, bug);
	race_release(&gate);
	thread_join(&t1.thread);
	race_disarm(&gate);
	CHECK_EQ(mmu_notifier_unregister(&m.notifier, mm_notifier(env.mm)), 0);
	env_fini(&env);
}

static void n13_devices_are_told_under_the_lock(void)
{
	twice("n13-outside-ptl", told_in_time);
}

const struct test_case mm_mutant_tests[] = { TEST(n3_registration_takes_rmap_locks),
					     TEST(n4_sorted_compares_values),
					     TEST(n4_one_class_a_pass),
					     TEST(n5_migration_is_told),
					     TEST(n13_devices_are_told),
					     TEST(n13_devices_are_told_under_the_lock),
					     TEST_END };
#else
const struct test_case mm_mutant_tests[] = { TEST_END };
#endif
