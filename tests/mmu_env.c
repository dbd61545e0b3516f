/* SPDX-License-Identifier: MIT */
/* What the tests of mmu/ stand on. */
#include "tests/mmu_env.h"

#include "lib/rng.h"

#include <string.h>

#define ENV_ARENA_BYTES (8ul << 20)

static void corrupted(struct frame_arena *arena, pfn_t pfn, unsigned int offset, u64 found, void *arg)
{
	struct env *env = arg;

	fetch_add(&env->corrupted, 1);
}

static void set_hostile(bool on)
{
#if PROVE
	mmu_hostile = on;
#endif
}

bool env_init(struct env *env)
{
	*env = (struct env){ 0 };
	set_hostile(false);
	if (!CHECK_EQ(frame_arena_create(ENV_ARENA_BYTES, &env->arena), 0))
		return false;
	frame_set_corruption_handler(env->arena, corrupted, env);
	if (!CHECK_EQ(mm_create(env->arena, "mmap_sem", &env->mm), 0))
		return false;
	if (!CHECK_EQ(mmu_create(env->mm, "ept", &env->mmu), 0))
		return false;
	if (!CHECK_EQ(mm_mmap(env->mm, ENV_HVA, ENV_PAGES << PAGE_SHIFT, ENV_RW, TAIN_MAP_FIXED, NULL), 0))
		return false;
	return CHECK_EQ(mmu_set_memslot(env->mmu, 0, ENV_GFN, ENV_PAGES, ENV_HVA, 0), 0);
}

void env_fini(struct env *env)
{
	mutant_set(NULL);
	mmu_destroy(env->mmu);
	mmput(env->mm);
	frame_arena_destroy(env->arena);
	set_hostile(true);
}

void env_replace(struct env *env, u64 page, u64 word)
{
	CHECK_EQ(mm_munmap(env->mm, env_hva(page), PAGE_SIZE), 0);
	CHECK_EQ(mm_mmap(env->mm, env_hva(page), PAGE_SIZE, ENV_RW, TAIN_MAP_FIXED, NULL), 0);
	CHECK_EQ(mm_write64(env->mm, env_hva(page), word), 0);
}

static void remember(const struct mmu_mismatch *m, void *arg)
{
	if (arg)
		*(struct mmu_mismatch *)arg = *m;
}

u64 env_audit(struct env *env, struct mmu_mismatch *last)
{
	return mmu_audit(env->mmu, remember, last);
}

void env_mutant(const char *name)
{
	CHECK_EQ(mutant_set(name), 0);
}

/* --- a vCPU ----------------------------------------------------------------- */

static void tv_tlb_flush(struct mmu_vcpu *vcpu)
{
	struct tv *tv = container_of(vcpu, struct tv, vcpu);
	unsigned int i;

	for (i = 0; i < TV_TLB; i++)
		tv->tlb[i].valid = false;
	WRITE_ONCE(tv->flushed, tv->flushed + 1);
}

static unsigned int tv_tlb_audit(struct mmu_vcpu *vcpu)
{
	struct tv *tv = container_of(vcpu, struct tv, vcpu);
	unsigned int i, bad = 0;

	for (i = 0; i < TV_TLB; i++) {
		if (tv->tlb[i].valid)
			bad += !mmu_audit_translation(vcpu, tv->tlb[i].gfn, tv->tlb[i].pfn, tv->tlb[i].writable);
	}
	return bad;
}

static const struct mmu_vcpu_ops tv_ops = { .tlb_flush = tv_tlb_flush, .tlb_audit = tv_tlb_audit };

void tv_init(struct tv *tv, struct env *env, u32 id)
{
	memset(tv, 0, sizeof(*tv));
	tv->env = env;
	mmu_vcpu_add(env->mmu, &tv->vcpu, id, &tv_ops);
}

void tv_fini(struct tv *tv)
{
	mmu_vcpu_remove(&tv->vcpu);
}

static void tv_main(void *arg)
{
	struct tv *tv = arg;

	tv->run(tv);
}

void tv_start(struct tv *tv, void (*fn)(struct tv *tv))
{
	tv->run = fn;
	CHECK_EQ(thread_create(&tv->thread, "tv", -1, tv_main, tv), 0);
}

void tv_join(struct tv *tv)
{
	thread_join(&tv->thread);
}

void tv_fault_once(struct tv *tv)
{
	tv->result = mmu_fault(&tv->vcpu, env_gpa(tv->page), MM_READ);
}

static void tv_enter(struct tv *tv)
{
	while (mmu_vcpu_enter(&tv->vcpu))
		WRITE_ONCE(tv->kicked, tv->kicked + 1);
}

static u8 *tv_translate(struct tv *tv, gpa_t gpa, bool write)
{
	gfn_t gfn = gpa >> PAGE_SHIFT;
	struct mmu_translation t;
	unsigned int i = gfn % TV_TLB;

	if (tv->tlb[i].valid && tv->tlb[i].gfn == gfn && (!write || tv->tlb[i].writable))
		return tv->tlb[i].host;
	if (!mmu_walk(&tv->vcpu, gpa, write ? MM_WRITE : MM_READ, &t))
		return NULL;
	tv->tlb[i].valid = true;
	tv->tlb[i].writable = t.writable;
	tv->tlb[i].gfn = gfn;
	tv->tlb[i].host = t.host;
	tv->tlb[i].pfn = t.pfn;
	return t.host;
}

bool tv_access(struct tv *tv, gpa_t gpa, bool write, u64 *word)
{
	u8 *host;

	for (;;) {
		if (READ_ONCE(tv->vcpu.requests) && mmu_vcpu_poll(&tv->vcpu)) {
			WRITE_ONCE(tv->kicked, tv->kicked + 1);
			tv_enter(tv);
		}
		host = tv_translate(tv, gpa, write);
		if (host)
			break;
		mmu_vcpu_exit(&tv->vcpu);
		tv->result = mmu_fault(&tv->vcpu, gpa, write ? MM_WRITE : MM_READ);
		if (tv->result < 0 || tv->result == MMU_FAULT_MMIO)
			return false;
		tv_enter(tv);
	}
	race_point("tv:before_access");
	if (write)
		__atomic_store_n((u64 *)(host + (gpa & ~PAGE_MASK)), *word, __ATOMIC_RELEASE);
	else
		*word = __atomic_load_n((u64 *)(host + (gpa & ~PAGE_MASK)), __ATOMIC_ACQUIRE);
	return true;
}

static bool tv_once(struct tv *tv, u64 page, bool write, u64 *word)
{
	bool ok;

	tv_enter(tv);
	ok = tv_access(tv, env_gpa(page), write, word);
	if (ok)
		mmu_vcpu_exit(&tv->vcpu);
	return ok;
}

bool tv_read(struct tv *tv, u64 page, u64 *word)
{
	return tv_once(tv, page, false, word);
}

bool tv_write(struct tv *tv, u64 page, u64 word)
{
	return tv_once(tv, page, true, &word);
}

/* --- a host thread ------------------------------------------------------------ */

static void host_main(void *arg)
{
	struct host *host = arg;

	host->fn(host);
	smp_store_release(&host->done, 1);
}

void host_start(struct host *host, struct env *env, u64 page, void (*fn)(struct host *host))
{
	*host = (struct host){ .env = env, .page = page, .fn = fn };
	CHECK_EQ(thread_create(&host->thread, "host", -1, host_main, host), 0);
}

void host_join(struct host *host)
{
	thread_join(&host->thread);
}

void host_dontneed(struct host *host)
{
	host->result = mm_madvise(host->env->mm, env_hva(host->page), PAGE_SIZE, TAIN_MADV_DONTNEED);
}

void host_munmap(struct host *host)
{
	host->result = mm_munmap(host->env->mm, env_hva(host->page), PAGE_SIZE);
}

void host_replace(struct host *host)
{
	env_replace(host->env, host->page, ENV_FRESH);
}
