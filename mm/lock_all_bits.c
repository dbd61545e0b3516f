/* SPDX-License-Identifier: MIT */
/*
 * mm_lock, variant bits: a bit for each object that exists, by its number, says which
 * are held; the objects keep no trace but a link in the chain of what was taken. The
 * array is the cookie that goes from take to drop, and may not be had.
 */
#include "lib/alloc.h"
#include "mm/mm_internal.h"

/* Under mm_all_locks.mutex. */
static struct {
	u64 *bits;
	u32 nr;
	struct rmap_lock *taken;
} cookie;

static void bits_drop(struct mm_struct *mm)
{
	while (cookie.taken) {
		struct rmap_lock *lock = cookie.taken;

		cookie.taken = lock->chain;
		rmap_lock_give_back(lock);
	}
	mem_free(cookie.bits);
	cookie.bits = NULL;
}

static int take_one(struct rmap_lock *lock, void *unused)
{
	u64 *word;

	if (lock->number >= cookie.nr)
		return -ENOMEM; /* more objects at one time than there are numbers */
	word = &cookie.bits[lock->number / 64];
	if (*word & BIT(lock->number % 64))
		return 0;
	rmap_lock_take(lock);
	*word |= BIT(lock->number % 64);
	lock->chain = cookie.taken;
	cookie.taken = lock;
	return 0;
}

static int bits_take(struct mm_struct *mm, bool killable)
{
	int err = 0;

	/* Objects that come later are not ours: the write side of the mm is held. */
	cookie.nr = READ_ONCE(rmap_numbers_high);
	cookie.bits = mem_zalloc((cookie.nr / 64 + 1) * sizeof(u64));
	if (!cookie.bits)
		return -ENOMEM;
	for (enum rmap_class class = 0; class < RMAP_CLASSES && !err; class ++)
		err = for_each_rmap_lock(mm, class, killable, take_one, NULL);
	if (err)
		bits_drop(mm);
	return err;
}

const struct mm_lock_variant mm_lock_bits = { .name = "bits", .take = bits_take, .drop = bits_drop };
