/* SPDX-License-Identifier: MIT */
/*
 * mm_lock: what the variants share, and variant marks.
 *
 * One pass over the VMAs per class of lock: a pass that took both classes from each
 * VMA would take an i_mmap while it holds an anon_vma, and somebody else the other way
 * round (catalogue 4):
 *
 *   all locks, one pass                    truncate, or whoever needs both
 *   -------------------                    -------------------------------
 *   VMA 1: anon_vma A
 *                                          i_mmap F
 *   VMA 2: i_mmap F: waits                 anon_vma A: waits
 */
#include <string.h>

#include "lib/thread.h"
#include "mm/mm_internal.h"

static DEFINE_LOCK_CLASS(all_locks_class, "mm_all_locks_mutex");

/* Not zero: the mark of a new lock is, and must equal no round. */
struct mm_all_locks mm_all_locks = {
	.round = 2,
	.variant = &mm_lock_marks,
	.mutex = MUTEX_INIT(&all_locks_class),
	.wait = WAIT_QUEUE_INIT,
};

/* --- the lock of an object ------------------------------------------------------ */

/*
 * Numbers are small and used again, so that a bit per number is an array of reasonable
 * size. guards: the bitmap and the hint.
 */
#define NUMBERS BIT(22)

static DEFINE_LOCK_CLASS(numbers_class, "rmap_numbers");
static struct spinlock numbers_lock = SPINLOCK_INIT(&numbers_class);
static u64 numbers_used[NUMBERS / 64];
static u32 numbers_hint; /* no word below has a free bit */
u32 rmap_numbers_high;	 /* every number in use is below; only grows */

static u32 number_get(void)
{
	u32 number = RMAP_NO_NUMBER;

	spin_lock(&numbers_lock);
	while (numbers_hint < NUMBERS / 64 && !~numbers_used[numbers_hint])
		numbers_hint++;
	if (numbers_hint < NUMBERS / 64) {
		u32 bit = (u32)__builtin_ctzll(~numbers_used[numbers_hint]);

		numbers_used[numbers_hint] |= BIT(bit);
		number = numbers_hint * 64 + bit;
		if (number >= rmap_numbers_high)
			WRITE_ONCE(rmap_numbers_high, number + 1);
	}
	spin_unlock(&numbers_lock);
	return number;
}

static void number_put(u32 number)
{
	if (number == RMAP_NO_NUMBER)
		return;
	spin_lock(&numbers_lock);
	numbers_used[number / 64] &= ~BIT(number % 64);
	numbers_hint = min(numbers_hint, number / 64);
	spin_unlock(&numbers_lock);
}

void rmap_lock_init(struct rmap_lock *lock, struct lock_class *class)
{
	init_rwsem(&lock->sem, class);
	lock->number = number_get();
	lock->mark = 0;
}

void rmap_lock_destroy(struct rmap_lock *lock)
{
	number_put(lock->number);
}

/* --- a round ---------------------------------------------------------------------- */

/*
 * The variant may be a later round's by now. That one does not hold the lock: it would
 * have taken it before we took its sem, and we had seen its number.
 */
bool rmap_round_holds(const struct rmap_lock *lock, u64 round)
{
	bool holds;

	rcu_read_lock();
	/* Pairs with the release in round_begin(). */
	holds = smp_load_acquire(&mm_all_locks.variant)->holds(lock, round);
	rcu_read_unlock();
	return holds;
}

void rmap_wait_round(u64 round)
{
	wait_event(&mm_all_locks.wait, smp_load_acquire(&mm_all_locks.round) != round); /* as rmap_in_round() */
}

#if CHECKING
/* The checker counts what is taken as held: how many of which class. Under the mutex. */
static struct {
	struct lock_dep dep;
	u64 count;
} counted[RMAP_CLASSES];

static void check_take(struct rmap_lock *lock)
{
	unsigned int i = 0;

	while (counted[i].count && counted[i].dep.class != lock->sem.dep.class)
		i++;
	counted[i].dep = lock->sem.dep;
	counted[i].count++;
	lock_check_acquire_nest(&lock->sem.dep, &mm_all_locks.mutex.dep, LOCK_WRITE, LOCK_HERE);
}

static void check_let_go(void)
{
	for (unsigned int i = 0; i < RMAP_CLASSES; i++) {
		while (counted[i].count) {
			lock_check_release(&counted[i].dep, LOCK_WRITE, LOCK_HERE);
			counted[i].count--;
		}
	}
}
#else
static inline void check_take(struct rmap_lock *lock)
{
}
static inline void check_let_go(void)
{
}
#endif

bool rmap_take_begin(struct rmap_lock *lock)
{
#if CHECKING
	/* Waiting for it would be waiting for ourselves. */
	if (rmap_round_holds(lock, mm_all_locks.round)) {
		lock_check_acquire(&lock->sem.dep, 0, LOCK_WRITE, LOCK_HERE);
		lock_check_release(&lock->sem.dep, LOCK_WRITE, LOCK_HERE);
		return false;
	}
#endif
	down_write_nest_lock(&lock->sem, &mm_all_locks.mutex);
	return true;
}

void rmap_take_end(struct rmap_lock *lock)
{
	check_take(lock);
	up_write(&lock->sem);
}

static void round_begin(const struct mm_lock_variant *variant)
{
	smp_store_release(&mm_all_locks.variant, variant); /* pairs with the acquire in rmap_round_holds() */
	/* Pairs with the acquire in rmap_in_round(): who sees the round sees its variant. */
	smp_store_release(&mm_all_locks.round, mm_all_locks.round + 1);
}

/*
 * Of a round that a signal ended: its callback is still to be asked for, which is work for
 * a thread that has to be woken. By the next round, or by mm_lock_settle(): never more than one.
 */
static struct rcu_head *owed;

void mm_lock_settle(void)
{
	struct rcu_head *head = xchg(&owed, NULL);

	if (head)
		call_rcu(head, head->func);
}

static void round_end(bool hurry)
{
	const struct mm_lock_variant *variant = mm_all_locks.variant;
	struct rcu_head *head;

	check_let_go();
	/* Lets go of all of them. Pairs with the acquire in rmap_in_round(). */
	smp_store_release(&mm_all_locks.round, mm_all_locks.round + 1);
	wake_up_all(&mm_all_locks.wait);
	head = variant->forget ? variant->forget() : NULL;
	if (!head)
		return;
	if (!hurry) {
		call_rcu(head, variant->free);
		return;
	}
	head->func = variant->free;
	head = xchg(&owed, head);
	ASSERT(!head); /* take_all() has settled it */
}

/* --- passes ------------------------------------------------------------------------ */

struct rmap_lock *vma_lock_of_class(const struct vm_area_struct *vma, enum rmap_class class)
{
	if (mutant(MUTANT_N4_ONE_PASS))
		return class == RMAP_I_MMAP ? vma_rmap_lock(vma) : NULL;
	return !vma->file == (class == RMAP_ANON_VMA) ? vma_rmap_lock(vma) : NULL;
}

/*
 * VMAs and objects lie all over memory: look so many VMAs ahead, so that what a step
 * needs has been asked for two stages before.
 */
#define AHEAD 8u

struct lookahead {
	struct vma_iter it;
	struct vm_area_struct *vmas[AHEAD];
	struct rmap_lock *locks[AHEAD];
	bool valid[AHEAD]; /* locks[i] stands for a VMA, with or without a lock */
	unsigned int at;
};

/* Shift by one VMA. Return: false while none has come out at the end. */
static bool lookahead_next(struct lookahead *l, enum rmap_class class, struct rmap_lock **lock)
{
	unsigned int i = l->at++ % AHEAD;
	struct vm_area_struct *vma = l->vmas[i];
	bool valid = l->valid[i];

	*lock = l->locks[i];
	l->valid[i] = vma;
	l->locks[i] = vma ? vma_lock_of_class(vma, class) : NULL;
	if (l->locks[i])
		__builtin_prefetch(l->locks[i], 1);
	l->vmas[i] = vma_iter_next(&l->it);
	if (l->vmas[i])
		__builtin_prefetch(&l->vmas[i]->file);
	return valid;
}

int for_each_rmap_lock(struct mm_struct *mm, enum rmap_class class, bool killable,
		       int (*fn)(struct rmap_lock *lock, void *arg), void *arg)
{
	struct lookahead ahead = { .at = 0 };
	struct rmap_lock *lock;
	int err = 0;

	if (class == RMAP_I_MMAP && !mm->vmas.nr_files && !mutant(MUTANT_N4_ONE_PASS))
		return 0;
	vma_iter_init(&ahead.it, mm->vmas.root);
	for (u32 left = mm->vmas.count; left && !err;) {
		if (!lookahead_next(&ahead, class, &lock))
			continue;
		left--;
		race_point("mm_lock:vma");
		if (killable && thread_signal_pending())
			return -EINTR;
		if (lock)
			err = fn(lock, arg);
	}
	return err;
}

/* --- variant marks ------------------------------------------------------------------- */

static int mark_one(struct rmap_lock *lock, void *unused)
{
	if (READ_ONCE(lock->mark) == mm_all_locks.round || !rmap_take_begin(lock))
		return 0;
	WRITE_ONCE(lock->mark, mm_all_locks.round);
	rmap_take_end(lock);
	return 0;
}

static int marks_take(struct mm_struct *mm, bool killable)
{
	int err = 0;

	for (enum rmap_class class = 0; class < RMAP_CLASSES && !err; class ++)
		err = for_each_rmap_lock(mm, class, killable, mark_one, NULL);
	return err;
}

static bool marks_holds(const struct rmap_lock *lock, u64 round)
{
	return READ_ONCE(lock->mark) == round;
}

const struct mm_lock_variant mm_lock_marks = { .name = "marks", .take = marks_take, .holds = marks_holds };

/* --- the door -------------------------------------------------------------------------- */

const struct mm_lock_variant *mm_lock_find(const char *name)
{
	static const struct mm_lock_variant *const variants[] = { &mm_lock_marks, &mm_lock_bits, &mm_lock_sorted };

	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		if (!strcmp(variants[i]->name, name))
			return variants[i];
	}
	return NULL;
}

static int take_all(struct mm_struct *mm, const struct mm_lock_variant *variant, bool killable)
{
	int err;

	mutex_lock(&mm_all_locks.mutex);
	err = mm->policy->lock_all(mm);
	if (err)
		goto unlock;
	if (mutant(MUTANT_N3_NO_RMAP_LOCKS) && killable)
		return 0; /* catalogue 1: sections under rmap locks go on */
	mm_lock_settle();
	round_begin(variant);
	err = variant->take(mm, killable);
	if (!err)
		return 0;
	round_end(err == -EINTR);
	mm->policy->unlock_all(mm);
unlock:
	mutex_unlock(&mm_all_locks.mutex);
	return err;
}

static void drop_all(struct mm_struct *mm, bool killable)
{
	if (!(mutant(MUTANT_N3_NO_RMAP_LOCKS) && killable))
		round_end(false);
	mm->policy->unlock_all(mm);
	mutex_unlock(&mm_all_locks.mutex);
}

int mm_take_all_locks(struct mm_struct *mm)
{
	int err = -EPERM;

	if (mm->privileged || mm->vmas.count <= mm->max_vmas)
		err = take_all(mm, mm->mm_lock, true);
	mm_trace(LOCK_ALL, mm->vmas.count, err, 0, 0);
	return err;
}

void mm_drop_all_locks(struct mm_struct *mm)
{
	drop_all(mm, true);
}

void mm_take_all_locks_audit(struct mm_struct *mm)
{
	int err = take_all(mm, &mm_lock_marks, false);

	BUG_ON(err);
}

void mm_drop_all_locks_audit(struct mm_struct *mm)
{
	drop_all(mm, false);
}
