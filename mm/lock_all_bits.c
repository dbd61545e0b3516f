/* SPDX-License-Identifier: MIT */
/*
 * mm_lock, variant bits: a bit for each object that exists, by its number, says which are
 * held; the objects keep no trace. The array is the cookie of the round, and may not
 * be had. Who finds a round under way while he locks one object looks into it.
 */
#include "lib/alloc.h"
#include "mm/mm_internal.h"

struct bits_cookie {
	struct rcu_head rcu;
	u32 nr;
	u64 bits[];
};

/* Of the round. Written under mm_all_locks.mutex; read by those who lock one object, under RCU. */
static struct bits_cookie *cookie;

static int take_one(struct rmap_lock *lock, void *unused)
{
	u64 *word;

	if (lock->number >= cookie->nr)
		return -ENOMEM; /* more objects at one time than there are numbers */
	word = &cookie->bits[lock->number / 64];
	if ((*word & BIT(lock->number % 64)) || !rmap_take_begin(lock))
		return 0;
	WRITE_ONCE(*word, *word | BIT(lock->number % 64)); /* under sem: who takes it next sees it */
	rmap_take_end(lock);
	return 0;
}

static int bits_take(struct mm_struct *mm, bool killable)
{
	/* Objects that come later are not ours: the write side of the mm is held. */
	u32 nr = READ_ONCE(rmap_numbers_high);
	struct bits_cookie *c = mem_zalloc(sizeof(*c) + (nr / 64 + 1) * sizeof(u64));
	int err = 0;

	if (!c)
		return -ENOMEM;
	c->nr = nr;
	rcu_assign_pointer(cookie, c);
	for (enum rmap_class class = 0; class < RMAP_CLASSES && !err; class ++)
		err = for_each_rmap_lock(mm, class, killable, take_one, NULL);
	return err;
}

static bool bits_holds(const struct rmap_lock *lock, u64 round)
{
	const struct bits_cookie *c = rcu_dereference(cookie);

	return c && lock->number < c->nr && (READ_ONCE(c->bits[lock->number / 64]) & BIT(lock->number % 64));
}

static void cookie_free(struct rcu_head *head)
{
	mem_free(container_of(head, struct bits_cookie, rcu));
}

static struct rcu_head *bits_forget(void)
{
	struct bits_cookie *c = cookie;

	rcu_assign_pointer(cookie, NULL);
	return c ? &c->rcu : NULL;
}

const struct mm_lock_variant mm_lock_bits = {
	.name = "bits",
	.take = bits_take,
	.holds = bits_holds,
	.forget = bits_forget,
	.free = cookie_free,
};
