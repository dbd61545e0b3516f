/* SPDX-License-Identifier: MIT */
/*
 * What the tests of mmu/ stand on: an arena, an address space, its mirror with one
 * slot over ENV_PAGES pages, and a vCPU made of nothing but a small TLB.
 */
#ifndef TESTS_MMU_ENV_H
#define TESTS_MMU_ENV_H

#include "lib/thread.h"
#include "mmu/mmu_internal.h"
#include "tests/test.h"

#define ENV_PAGES 64ull
#define ENV_HVA 0x10000000ull
#define ENV_GFN 0x100000ull
#define ENV_RW (TAIN_PROT_READ | TAIN_PROT_WRITE)

struct env {
	struct frame_arena *arena;
	struct mm_struct *mm;
	struct mmu *mmu;
	u64 corrupted; /* free frames somebody wrote to; told by the arena */
};

/* The slot is there, the memory behind it mapped, nothing touched. Hostile mode is off until env_fini(). */
bool env_init(struct env *env);
void env_fini(struct env *env);

static inline hva_t env_hva(u64 page)
{
	return ENV_HVA + (page << PAGE_SHIFT);
}

static inline gpa_t env_gpa(u64 page)
{
	return (ENV_GFN + page) << PAGE_SHIFT;
}

/* Throw away what is mapped at page, map fresh memory there, and write a word to it. */
void env_replace(struct env *env, u64 page, u64 word);
/* Mismatches that the exact audit finds; the last one in *last (may be NULL). */
u64 env_audit(struct env *env, struct mmu_mismatch *last);
/* Turn a mutant on; in a test_vcpu's or host's way. "none" turns it off. */
void env_mutant(const char *name);

/* --- a vCPU ----------------------------------------------------------------- */

#define TV_TLB 64

struct tv {
	struct mmu_vcpu vcpu;
	struct {
		bool valid, writable;
		gfn_t gfn;
		u8 *host;
		pfn_t pfn;
	} tlb[TV_TLB];
	u32 flushed; /* how often the TLB was emptied */
	u32 kicked;
	/* For tv_start(). */
	struct thread thread;
	void (*run)(struct tv *tv);
	struct env *env;
	u64 page, word;
	int result;
	u32 stop;
};

void tv_init(struct tv *tv, struct env *env, u32 id);
void tv_fini(struct tv *tv);

/* Run fn(tv) on a thread. */
void tv_start(struct tv *tv, void (*fn)(struct tv *tv));
void tv_join(struct tv *tv);
void tv_fault_once(struct tv *tv); /* for tv_start(): a read fault at its page */

/*
 * One access, in guest mode before and after: poll, TLB, walk, or fault until it
 * works. Passes race point "tv:before_access" with the translation in hand.
 * Return: false if the fault path refused (tv->result says why), outside guest mode then.
 */
bool tv_access(struct tv *tv, gpa_t gpa, bool write, u64 *word);
/* The same, entered and left around it. */
bool tv_read(struct tv *tv, u64 page, u64 *word);
bool tv_write(struct tv *tv, u64 page, u64 word);

/* --- a host thread ------------------------------------------------------------ */

struct host {
	struct thread thread;
	struct env *env;
	void (*fn)(struct host *host);
	u64 page;
	int result;
	u32 done; /* set when fn has returned */
};

void host_start(struct host *host, struct env *env, u64 page, void (*fn)(struct host *host));
void host_join(struct host *host);
static inline bool host_done(struct host *host)
{
	return smp_load_acquire(&host->done);
}

/* What host threads do. */
void host_dontneed(struct host *host);
void host_munmap(struct host *host);
void host_replace(struct host *host); /* env_replace(page, ENV_FRESH) */

#define ENV_OLD 0x01d01d01d01d01dull
#define ENV_FRESH 0xf4e54f4e54f4e54ull

extern const struct test_case mmu_format_tests[], mmu_iter_tests[], mmu_slot_tests[], mmu_fault_tests[];
extern const struct test_case mmu_race_tests[], mmu_slot_race_tests[], mmu_dirty_tests[], mmu_request_tests[],
	mmu_matrix_tests[], mmu_random_tests[];
extern const struct test_case mmu_age_tests[];

#endif /* TESTS_MMU_ENV_H */
