/* SPDX-License-Identifier: MIT */
/* The second MMU's life: creation, destruction, poison, statistics. */
#include "lib/alloc.h"
#include "mmu/mmu_internal.h"

#include <string.h>

/* Outer to inner; docs/locking.md has the tree. */
static DEFINE_LOCK_CLASS(slots_class, "mmu slots_lock");
static DEFINE_LOCK_CLASS(vcpu_class, "mmu vcpu_lock");
static DEFINE_LOCK_CLASS(invalidate_class, "mmu invalidate_lock");
static DEFINE_LOCK_CLASS(mmu_class, "mmu_lock");

static const struct mmu_format *const formats[] = { &mmu_format_ept };

#if PROVE
bool mmu_hostile = true;
#endif
#if CHECKING
unsigned int mmu_zap_batch = PROVE ? 32 : 4096;
#endif

static const struct mmu_format *format_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		if (!strcmp(formats[i]->name, name))
			return formats[i];
	}
	return NULL;
}

static void mmu_init_locks(struct mmu *mmu)
{
	mutex_init(&mmu->slots_lock, &slots_class);
	mutex_init(&mmu->vcpu_lock, &vcpu_class);
	spin_lock_init(&mmu->invalidate_lock, &invalidate_class);
	rwlock_init(&mmu->lock, &mmu_class);
	init_waitqueue(&mmu->active_wait);
	init_waitqueue(&mmu->audit_wait);
}

/* Everything but the subscription. Fine on a half-made one. */
static void mmu_free(struct mmu *mmu)
{
	if (mmu->root)
		table_free_tree(mmu, mmu->root, mmu->format->levels);
	mmu_slots_destroy(mmu);
	cleanup_srcu_struct(&mmu->srcu);
	counters_destroy(&mmu->counters);
	mmdrop(mmu->mm);
	mem_free(mmu);
}

int mmu_create(struct mm_struct *mm, const char *format, struct mmu **out)
{
	const struct mmu_format *found = format_find(format);
	struct mmu *mmu;
	int ret;

	if (!found)
		return -EINVAL;
	mmu = mem_alloc_aligned(CACHELINE, sizeof(*mmu));
	if (!mmu)
		return -ENOMEM;
	mmgrab(mm);
	mmu->format = found;
	mmu->zap_index = MMU_NO_TABLE;
	mmu->mm = mm;
	mmu->arena = mm_arena(mm);
	mmu->arena_base = frame_arena_base(mmu->arena);
	mmu->notifier.ops = &mmu_notifier_callbacks;
	mmu_init_locks(mmu);
	ret = counters_init(&mmu->counters);
	if (!ret)
		ret = init_srcu_struct(&mmu->srcu);
	if (!ret)
		ret = mmu_slots_init(mmu);
	if (!ret) {
		mmu->root = table_alloc(mmu);
		ret = mmu->root ? 0 : -ENOMEM;
	}
	if (!ret)
		ret = mmu_notifier_register(&mmu->notifier, mm_notifier(mm));
	if (ret) {
		mmu_free(mmu);
		return ret;
	}
	*out = mmu;
	return 0;
}

void mmu_destroy(struct mmu *mmu)
{
	BUG_ON(mmu->vcpus);
	/* rule N9: calls release if exit has not; after it no callback runs. */
	BUG_ON(mmu_notifier_unregister(&mmu->notifier, mm_notifier(mmu->mm)));
	mmu_free(mmu);
}

const char *mmu_format(const struct mmu *mmu)
{
	return mmu->format->label;
}

int mmu_poison(struct mmu *mmu, const struct mmu_mismatch *why)
{
	u32 sound = MMU_SOUND;

	mmu_trace(poison, why->gfn, why->mirrored, why->host, 0);
	if (try_cmpxchg(&mmu->poisoned, &sound, MMU_POISONING)) {
		mmu->poisoning = *why;
		smp_store_release(&mmu->poisoned, MMU_POISONED); /* pairs with the acquire in mmu_get_poison() */
	}
	return -EIO;
}

bool mmu_get_poison(struct mmu *mmu, struct mmu_mismatch *m)
{
	if (smp_load_acquire(&mmu->poisoned) != MMU_POISONED)
		return false;
	*m = mmu->poisoning;
	return true;
}

void mmu_get_stats(struct mmu *mmu, struct mmu_stats *stats)
{
	const struct counters *c = &mmu->counters;

	*stats = (struct mmu_stats){
		.faults = counter_sum(c, MMU_NR_FAULTS),
		.retries = counter_sum(c, MMU_NR_RETRIES),
		.spurious = counter_sum(c, MMU_NR_SPURIOUS),
		.tables = counter_sum(c, MMU_NR_TABLES) - counter_sum(c, MMU_NR_TABLES_FREED),
		.mapped = counter_sum(c, MMU_NR_MAPPED),
		.zapped = counter_sum(c, MMU_NR_ZAPPED),
		.flushes = counter_sum(c, MMU_NR_FLUSHES),
		.flush_waits = counter_sum(c, MMU_NR_FLUSH_WAITS),
		.invalidations = counter_sum(c, MMU_NR_INVALIDATIONS),
	};
}
