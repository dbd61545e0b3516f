/* SPDX-License-Identifier: MIT */
/* The owner, the listener and the mirror. */
#include <string.h>

#include "tests/notifier_env.h"

static DEFINE_LOCK_CLASS(owner_class, "test owner");
static DEFINE_LOCK_CLASS(rmap_class, "test owner rmap");
static DEFINE_LOCK_CLASS(mirror_class, "test mirror");

/* --- owner ----------------------------------------------------------------------- */

static struct owner *owner_of(struct notifier_mm *mm)
{
	return container_of(mm, struct owner, mm);
}

static void owner_lock(struct notifier_mm *mm)
{
	down_write(&owner_of(mm)->lock);
}

static void owner_unlock(struct notifier_mm *mm)
{
	up_write(&owner_of(mm)->lock);
}

static int owner_take_all(struct notifier_mm *mm)
{
	lockdep_assert_held_write(&owner_of(mm)->lock);
	if (owner_of(mm)->take_all_locks)
		return owner_of(mm)->take_all_locks;
	down_write(&owner_of(mm)->rmap);
	owner_of(mm)->all_locked++;
	return 0;
}

static void owner_drop_all(struct notifier_mm *mm)
{
	up_write(&owner_of(mm)->rmap);
	owner_of(mm)->all_locked--;
}

static void owner_free(struct notifier_mm *mm)
{
	notifier_mm_destroy(mm);
	owner_of(mm)->freed++;
}

static const struct notifier_mm_ops owner_ops = {
	.lock_for_write = owner_lock,
	.unlock_for_write = owner_unlock,
	.take_all_locks = owner_take_all,
	.drop_all_locks = owner_drop_all,
	.free = owner_free,
	.limit = TAIN_TASK_SIZE,
};

void owner_init_with(struct owner *owner, enum notifier_admission admission)
{
	*owner = (struct owner){ 0 };
	init_rwsem(&owner->lock, &owner_class);
	init_rwsem(&owner->rmap, &rmap_class);
	CHECK_EQ(notifier_mm_init(&owner->mm, &owner_ops, admission), 0);
}

void owner_init(struct owner *owner)
{
	owner_init_with(owner, NOTIFIER_ADMIT_MM_LOCK);
}

void owner_fini(struct owner *owner)
{
	CHECK_EQ(owner->freed, 0);
	CHECK_EQ(owner->all_locked, 0);
	notifier_mm_drop(&owner->mm);
	CHECK_EQ(owner->freed, 1);
}

struct mmu_notifier_range owner_range(struct owner *owner, bool blockable)
{
	return (struct mmu_notifier_range){
		.mm = &owner->mm, .start = 0x1000, .end = 0x3000, .event = MMU_NOTIFY_CLEAR, .blockable = blockable
	};
}

/* --- listener ---------------------------------------------------------------------- */

char heard[HEARD_MAX];

void heard_reset(void)
{
	heard[0] = '\0';
}

static void hear(char what, char who)
{
	size_t len = strlen(heard);

	if (who == '-' || len + 4 > sizeof(heard))
		return; /* nameless listeners live in several threads */
	if (len)
		heard[len++] = ' ';
	heard[len++] = what;
	heard[len++] = who;
	heard[len] = '\0';
}

static int listener_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct listener *l = container_of(notifier, struct listener, notifier);

	fetch_add(&l->starts, 1);
	if (!notifier->mm)
		fetch_add(&l->bad, 1);
	hear('s', l->name);
	if (l->name != '-')
		l->last = *range;
	if (l->in_start)
		l->in_start(l, range);
	if (!l->answer)
		fetch_add(&l->open, 1);
	return l->answer;
}

static void listener_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct listener *l = container_of(notifier, struct listener, notifier);

	fetch_add(&l->ends, 1);
	if (fetch_add(&l->open, -1) <= 0 || !notifier->mm)
		fetch_add(&l->bad, 1);
	hear('e', l->name);
}

static void listener_release(struct mmu_notifier *notifier, struct notifier_mm *mm)
{
	struct listener *l = container_of(notifier, struct listener, notifier);

	fetch_add(&l->releases, 1);
	hear('r', l->name);
}

const struct mmu_notifier_ops listener_ops = {
	.release = listener_release,
	.invalidate_range_start = listener_start,
	.invalidate_range_end = listener_end,
};

const struct mmu_notifier_ops listener_ops_no_end = {
	.release = listener_release,
	.invalidate_range_start = listener_start,
};

void listener_init(struct listener *listener, char name, const struct mmu_notifier_ops *ops)
{
	*listener = (struct listener){ .name = name, .notifier.ops = ops };
}

/* --- actors, reports ------------------------------------------------------------------- */

bool act(struct actor *actor, void (*fn)(void *arg), void *arg, void *arg2)
{
	*actor = (struct actor){ .arg = arg, .arg2 = arg2 };
	return CHECK_EQ(thread_create(&actor->thread, "actor", -1, fn, actor), 0);
}

void act_done(struct actor *actor)
{
	smp_store_release(&actor->done, 1); /* pairs with the acquire in is_done() */
}

bool is_done(struct actor *actor)
{
	return smp_load_acquire(&actor->done);
}

void do_unregister(void *arg)
{
	struct actor *a = arg;

	a->result = mmu_notifier_unregister(a->arg, a->arg2);
	act_done(a);
}

void do_register(void *arg)
{
	struct actor *a = arg;

	a->result = mmu_notifier_register(a->arg, a->arg2);
	act_done(a);
}

void do_release(void *arg)
{
	struct actor *a = arg;

	mmu_notifier_release(a->arg);
	act_done(a);
}

void do_section(void *arg)
{
	struct actor *a = arg;
	struct owner *owner = a->arg;
	struct mmu_notifier_range range = owner_range(owner, true);

	down_read(&owner->lock);
	a->result = mmu_notifier_invalidate_range_start(&range);
	race_point("test:in_section");
	mmu_notifier_invalidate_range_end(&range);
	up_read(&owner->lock);
	act_done(a);
}

#if CHECKING
static char report[1024];
static u32 reports;

static void keep_report(const char *text)
{
	if (!fetch_add(&reports, 1))
		strncpy(report, text, sizeof(report) - 1);
}

void report_begin(void)
{
	report[0] = '\0';
	reports = 0;
	lockdep_set_report(keep_report);
}

const char *report_end(void)
{
	lockdep_set_report(NULL);
	return report;
}
#endif

/* --- mirror --------------------------------------------------------------------------- */

static struct mirror *mirror_of(struct mmu_notifier *notifier)
{
	return container_of(notifier, struct mirror, notifier);
}

static int mirror_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct mirror *m = mirror_of(notifier);

	mutex_lock(&m->lock);
	m->in_progress++;
	for (u64 i = 0; i < MIRROR_PAGES; i++) {
		if (mirror_addr(i) >= range->start && mirror_addr(i) < range->end)
			m->entry[i].page = NULL;
	}
	mutex_unlock(&m->lock);
	return 0;
}

static void mirror_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct mirror *m = mirror_of(notifier);

	mutex_lock(&m->lock);
	m->seq++;
	m->in_progress--;
	mutex_unlock(&m->lock);
}

static void mirror_release(struct mmu_notifier *notifier, struct notifier_mm *mm)
{
	struct mirror *m = mirror_of(notifier);

	mutex_lock(&m->lock);
	m->released = true;
	memset(m->entry, 0, sizeof(m->entry));
	mutex_unlock(&m->lock);
}

static const struct mmu_notifier_ops mirror_ops = {
	.release = mirror_release,
	.invalidate_range_start = mirror_start,
	.invalidate_range_end = mirror_end,
};

static void on_corruption(struct frame_arena *arena, pfn_t pfn, unsigned int offset, u64 found, void *arg)
{
	struct mirror_env *env = arg;

	fetch_add(&env->corrupted, 1);
}

bool mirror_env_init(struct mirror_env *env)
{
	*env = (struct mirror_env){ .mirror.notifier.ops = &mirror_ops };
	mutex_init(&env->mirror.lock, &mirror_class);
	if (!CHECK_EQ(frame_arena_create(8ul << 20, &env->arena), 0))
		return false;
	frame_set_corruption_handler(env->arena, on_corruption, env);
	CHECK_EQ(mm_create(env->arena, "mmap_sem", &env->mm), 0);
	CHECK_EQ(mm_mmap(env->mm, MIRROR_BASE, MIRROR_PAGES * PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	return CHECK_EQ(mmu_notifier_register(&env->mirror.notifier, mm_notifier(env->mm)), 0);
}

void mirror_env_fini(struct mirror_env *env)
{
	size_t bytes = frame_arena_bytes(env->arena);

	mmgrab(env->mm);
	mmput(env->mm);
	CHECK(env->mirror.released);
	CHECK_EQ(mmu_notifier_unregister(&env->mirror.notifier, mm_notifier(env->mm)), 0);
	mmdrop(env->mm);
	CHECK_EQ(frame_arena_free_bytes(env->arena), bytes);
	frame_arena_destroy(env->arena);
}

int mirror_fault(struct mirror_env *env, u64 page, bool write)
{
	struct mirror *m = &env->mirror;

	for (;;) {
		struct mm_fault fault;
		bool stale;
		u64 seq;
		int err;

		mutex_lock(&m->lock);
		seq = m->seq;
		mutex_unlock(&m->lock);
		err = mm_fault_in(env->mm, mirror_addr(page), write ? MM_WRITE : MM_READ, &fault);
		if (err)
			return err;
		race_point("mirror:before_install");
		mutex_lock(&m->lock);
		stale = m->in_progress || m->seq != seq || m->released;
		if (!stale) {
			m->entry[page].page = fault.page;
			m->entry[page].writable = fault.writable;
		}
		mutex_unlock(&m->lock);
		put_page(fault.page);
		if (!stale)
			return 0;
		thread_yield();
	}
}

int mirror_access(struct mirror_env *env, u64 page, bool write, u64 *value)
{
	struct mirror *m = &env->mirror;

	for (;;) {
		struct page *p;
		int err = -EAGAIN;

		mutex_lock(&m->lock);
		p = m->entry[page].page;
		if (p && (!write || m->entry[page].writable)) {
			u64 *word = page_address(p);

			err = page_count(p) && READ_ONCE(p->mapcount) ? 0 : -ESTALE;
			if (write)
				WRITE_ONCE(*word, *value);
			else
				*value = READ_ONCE(*word);
		}
		mutex_unlock(&m->lock);
		if (err != -EAGAIN)
			return err;
		err = mirror_fault(env, page, write);
		if (err)
			return err;
	}
}

struct page *mirror_page(struct mirror_env *env, u64 page)
{
	struct page *p;

	mutex_lock(&env->mirror.lock);
	p = env->mirror.entry[page].page;
	mutex_unlock(&env->mirror.lock);
	return p;
}

u32 mirror_audit(struct mirror_env *env)
{
	struct mirror *m = &env->mirror;
	u32 bad = 0;

	mm_audit_begin(env->mm);
	mutex_lock(&m->lock);
	for (u64 i = 0; i < MIRROR_PAGES; i++) {
		bool writable = false;
		struct page *host = mm_audit_lookup(env->mm, mirror_addr(i), &writable);

		if (!m->entry[i].page)
			continue;
		bad += m->entry[i].page != host || (m->entry[i].writable && !writable);
	}
	mutex_unlock(&m->lock);
	mm_audit_end(env->mm);
	return bad;
}
