/* SPDX-License-Identifier: MIT */
/*
 * mm_lock: each variant takes every lock once, lets others wait, and ends at any
 * position with nothing left locked.
 */
#include "mm/lock_all.h"
#include "tests/mm_env.h"

static const char *const variants[] = { "marks", "bits", "sorted" };

#define FILES 2u

struct locked {
	struct frame_arena *arena;
	struct mm_struct *mm;
	struct mm_file *file[FILES];
	u32 vmas, objects;
};

#define AT(page) (ENV_BASE_LEAF + (page)*PAGE_SIZE)

static void touch(struct locked *l, u64 page)
{
	CHECK_EQ(mm_mmap(l->mm, AT(page), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(l->mm, AT(page), page + 1), 0);
}

/*
 *   A B A   . C . F1 F2 F1 . untouched    three anon_vmas, two files, eight VMAs and one more; A and F1 come twice
 */
static bool locked_init(struct locked *l, const char *variant)
{
	struct mm_options options = { .mm_lock = variant };

	*l = (struct locked){ .vmas = 8, .objects = 5 };
	if (!CHECK_EQ(frame_arena_create(ENV_ARENA_BYTES, &l->arena), 0))
		return false;
	CHECK_EQ(mm_create_with(l->arena, &options, &l->mm), 0);
	CHECK_EQ(mm_mmap(l->mm, AT(0), 3 * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(l->mm, AT(0), 1), 0);
	touch(l, 20);
	CHECK_EQ(mm_mremap(l->mm, AT(20), PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED, AT(1), NULL),
		 0);
	touch(l, 4);
	for (unsigned int i = 0; i < 3; i++) {
		struct mm_file **file = &l->file[i % FILES];

		if (i < FILES)
			CHECK_EQ(mm_file_create(l->arena, 4 * PAGE_SIZE, file), 0);
		CHECK_EQ(
			mm_mmap_file(l->mm, AT(6 + i), PAGE_SIZE, RW, TAIN_MAP_FIXED | TAIN_MAP_SHARED, *file, 0, NULL),
			0);
	}
	CHECK_EQ(mm_mmap(l->mm, AT(10), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	mm_check(l->mm);
	return CHECK_EQ(l->mm->vmas.count, l->vmas);
}

static void locked_fini(struct locked *l)
{
	mm_check(l->mm);
	mmput(l->mm);
	for (unsigned int i = 0; i < FILES; i++)
		mm_file_put(l->file[i]);
	frame_arena_destroy(l->arena);
}

static void write_lock_mm(struct locked *l)
{
	mm_write_begin(l->mm, 0, TAIN_TASK_SIZE);
}

static void write_unlock_mm(struct locked *l)
{
	struct mm_range range = { l->mm, 0, TAIN_TASK_SIZE };

	mm_write_end(&range);
}

/* Of the objects of the mm: how many are held, by rwsem or by the round. */
static u32 held(struct locked *l)
{
	struct rmap_lock *seen[16];
	u32 nr = 0, count = 0;
	u64 round;

	for (struct vm_area_struct *vma = find_vma(l->mm, 0); vma; vma = find_vma(l->mm, vma->end)) {
		struct rmap_lock *lock = vma_rmap_lock(vma);
		bool known = !lock;

		for (u32 i = 0; i < nr; i++)
			known |= seen[i] == lock;
		if (known)
			continue;
		seen[nr++] = lock;
		count += rwsem_is_locked(&lock->sem) || rmap_in_round(lock, &round);
	}
	CHECK_EQ(nr, l->objects);
	return count;
}

static void takes_each_once(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		struct locked l;

		if (!locked_init(&l, variants[i]))
			return;
		for (unsigned int turn = 0; turn < 3; turn++) {
			write_lock_mm(&l);
			CHECK_EQ(held(&l), 0);
			CHECK_EQ(mm_take_all_locks(l.mm), 0);
			CHECK_EQ(held(&l), l.objects);
			mm_drop_all_locks(l.mm);
			CHECK_EQ(held(&l), 0);
			write_unlock_mm(&l);
			lockdep_assert_none_held();
		}
		locked_fini(&l);
	}
}

static void refused_above_max_vmas(void)
{
	struct mm_options options = { .max_vmas = 2 };
	struct frame_arena *arena;
	struct mm_struct *mm;

	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &arena), 0);
	for (unsigned int privileged = 0; privileged < 2; privileged++) {
		struct mmu_notifier_ops ops = { 0 };
		struct mmu_notifier subscription = { .ops = &ops };

		options.privileged = privileged;
		REQUIRE_EQ(mm_create_with(arena, &options, &mm), 0);
		for (unsigned int i = 0; i < 2; i++)
			CHECK_EQ(mm_mmap(mm, AT(2 * i), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
		CHECK_EQ(mmu_notifier_register(&subscription, mm_notifier(mm)), 0);
		CHECK_EQ(mmu_notifier_unregister(&subscription, mm_notifier(mm)), 0);
		CHECK_EQ(mm_mmap(mm, AT(4), PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
		CHECK_EQ(mmu_notifier_register(&subscription, mm_notifier(mm)), privileged ? 0 : -EPERM);
		if (privileged)
			CHECK_EQ(mmu_notifier_unregister(&subscription, mm_notifier(mm)), 0);
		mmput(mm);
	}
	frame_arena_destroy(arena);
}

static void options(void)
{
	const struct mm_options bad[] = { { .policy = "none" }, { .mm_lock = "all" }, { .admission = "none" } };
	struct frame_arena *arena;
	struct mm_struct *mm;

	REQUIRE_EQ(frame_arena_create(ENV_ARENA_BYTES, &arena), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_EQ(mm_create_with(arena, &bad[i], &mm), -EINVAL);
	CHECK_EQ(mm_create_with(NULL, NULL, &mm), -EINVAL);
	CHECK_EQ(mm_create_with(arena, NULL, NULL), -EINVAL);
	REQUIRE_EQ(mm_create_with(arena, NULL, &mm), 0);
	CHECK_STR(mm->mm_lock->name, "marks");
	CHECK_EQ(mm->max_vmas, MM_MAX_MAP_COUNT);
	CHECK_EQ(mm->max_map_count, MM_MAX_MAP_COUNT);
	mmput(mm);
	REQUIRE_EQ(mm_create_with(arena, &(struct mm_options){ .max_vmas = 100000, .admission = "section" }, &mm), 0);
	CHECK_EQ(mm->max_map_count, 100000);
	CHECK_EQ(mm->notifier.admission, NOTIFIER_ADMIT_SECTION);
	mmput(mm);
	frame_arena_destroy(arena);
}

#if CHECKING

struct taker {
	struct thread thread;
	struct locked *l;
	int err;
	u32 held; /* at the end */
};

static void take(void *arg)
{
	struct taker *t = arg;

	write_lock_mm(t->l);
	t->err = mm_take_all_locks(t->l->mm);
	t->held = held(t->l);
	if (!t->err)
		mm_drop_all_locks(t->l->mm);
	write_unlock_mm(t->l);
	lockdep_assert_none_held();
}

/* A signal arrives at the nth VMA of all passes. */
static int interrupt_at(struct locked *l, unsigned int nth)
{
	struct taker t = { .l = l };
	struct race_gate gate;

	race_arm(&gate, "mm_lock:vma", nth);
	if (!CHECK_EQ(thread_create(&t.thread, "taker", -1, take, &t), 0))
		return -EAGAIN;
	race_wait(&gate);
	thread_signal_send(&t.thread);
	race_release(&gate);
	thread_join(&t.thread);
	race_disarm(&gate);
	CHECK_EQ(t.held, t.err ? 0 : l->objects);
	return t.err;
}

static void signal_at_each_position(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		struct locked l;

		if (!locked_init(&l, variants[i]))
			return;
		for (unsigned int nth = 1; nth <= 2 * l.vmas; nth++) {
			CHECK_MSG(interrupt_at(&l, nth) == -EINTR, "%s: a signal at VMA %u", variants[i], nth);
			write_lock_mm(&l);
			CHECK_EQ(mm_take_all_locks(l.mm), 0); /* nothing stayed behind */
			mm_drop_all_locks(l.mm);
			write_unlock_mm(&l);
		}
		locked_fini(&l);
	}
}

/* Registration says -EINTR, publishes nothing, and works once the signal is dealt with. */
static void register_is_interrupted(void)
{
	struct mmu_notifier_ops ops = { 0 };

	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		struct mmu_notifier subscription = { .ops = &ops };
		struct locked l;

		if (!locked_init(&l, variants[i]))
			return;
		thread_signal_note();
		CHECK(thread_signal_pending());
		CHECK_EQ(mmu_notifier_register(&subscription, mm_notifier(l.mm)), -EINTR);
		CHECK(!mm_has_notifiers(&l.mm->notifier));
		mm_check(l.mm); /* auditors are not interrupted */
		CHECK(thread_signal_clear());
		CHECK(!thread_signal_pending());
		CHECK_EQ(mmu_notifier_register(&subscription, mm_notifier(l.mm)), 0);
		CHECK_EQ(mmu_notifier_unregister(&subscription, mm_notifier(l.mm)), 0);
		locked_fini(&l);
	}
}

static u64 outstanding_after_grace(void)
{
	rcu_barrier();
	return mem_outstanding();
}

/*
 * Who is told to end wakes nobody: the arrays of his round stay, those of one round and no
 * more, until the next round, or the end of any address space.
 */
static void arrays_of_an_ended_round(void)
{
	static const u64 arrays[] = { 0, 1, 4 }; /* as in memory_runs_out() */

	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		struct locked l;
		u64 before;

		if (!locked_init(&l, variants[i]))
			return;
		mm_lock_settle();
		before = outstanding_after_grace();
		write_lock_mm(&l);
		thread_signal_note();
		for (int turn = 0; turn < 3; turn++) {
			CHECK_EQ(mm_take_all_locks(l.mm), -EINTR);
			CHECK_EQ(outstanding_after_grace() - before, arrays[i]);
		}
		CHECK(thread_signal_clear());
		CHECK_EQ(mm_take_all_locks(l.mm), 0);
		mm_drop_all_locks(l.mm);
		CHECK_EQ(outstanding_after_grace(), before);
		thread_signal_note();
		CHECK_EQ(mm_take_all_locks(l.mm), -EINTR);
		CHECK(thread_signal_clear());
		mm_lock_settle();
		CHECK_EQ(outstanding_after_grace(), before);
		write_unlock_mm(&l);
		locked_fini(&l);
	}
}

static void memory_runs_out(void)
{
	static const unsigned int allocations[] = { 0, 1, 4 }; /* sorted: the cookie, two arrays, one to sort */

	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		unsigned int failures = 0;
		struct locked l;
		int err;

		if (!locked_init(&l, variants[i]))
			return;
		do {
			write_lock_mm(&l);
			mem_fail_after(failures + 1);
			err = mm_take_all_locks(l.mm);
			mem_fail_after(0);
			CHECK_EQ(held(&l), err ? 0 : l.objects);
			if (!err)
				mm_drop_all_locks(l.mm);
			write_unlock_mm(&l);
			CHECK(!err || err == -ENOMEM);
			failures += !!err;
		} while (err && failures < 10);
		CHECK_EQ(failures, allocations[i]);
		locked_fini(&l);
	}
}

struct truncater {
	struct thread thread;
	struct mm_file *file;
	u32 done;
};

static void truncate_all(void *arg)
{
	struct truncater *t = arg;

	CHECK_EQ(mm_file_truncate(t->file, 0), 0);
	smp_store_release(&t->done, 1); /* pairs with the acquire in the test */
}

/*
 * A section under an rmap lock waits for who holds them all:
 *
 *   main                                T1
 *   take all
 *                                       truncate: i_mmap lock: waits
 *   drop all
 *                                       section
 */
static void sections_wait(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		struct truncater t = { 0 };
		struct race_gate take_gate, start_gate;
		struct locked l;

		if (!locked_init(&l, variants[i]))
			return;
		CHECK_EQ(mm_write64(l.mm, AT(6), 42), 0);
		t.file = l.file[0];
		race_arm(&take_gate, "mm_truncate:after_take", 1);
		race_arm(&start_gate, "mm_truncate:after_start", 1);
		REQUIRE_EQ(thread_create(&t.thread, "truncater", -1, truncate_all, &t), 0);
		race_wait(&take_gate);
		write_lock_mm(&l);
		CHECK_EQ(mm_take_all_locks(l.mm), 0);
		race_release(&take_gate);
		for (unsigned int turn = 0; turn < 100; turn++)
			thread_yield(); /* a chance to do wrong */
		CHECK(!race_held(&start_gate) && !smp_load_acquire(&t.done));
		mm_drop_all_locks(l.mm);
		race_wait(&start_gate);
		race_release(&start_gate);
		write_unlock_mm(&l);
		thread_join(&t.thread);
		race_disarm(&take_gate);
		race_disarm(&start_gate);
		CHECK(t.done);
		CHECK_EQ(mm_write64(l.mm, AT(6), 42), -EFAULT);
		locked_fini(&l);
	}
}

#define CHECKING_TESTS                                                                                                 \
	TEST(signal_at_each_position), TEST(register_is_interrupted), TEST(arrays_of_an_ended_round),                  \
		TEST(memory_runs_out), TEST(sections_wait),
#else
#define CHECKING_TESTS
#endif

const struct test_case mm_lock_all_tests[] = { TEST(takes_each_once), TEST(refused_above_max_vmas), TEST(options),
					       CHECKING_TESTS TEST_END };
