/* SPDX-License-Identifier: MIT */
/*
 * vCPUs that read and write on their threads while the host changes everything
 * under them, with the audit after every operation, delays at every race point, and
 * hostile mode where the build has it. A read must return zero or a word that some
 * vCPU wrote to that very page: poison, another page's word or a torn one is a
 * violation.
 */
#include "lib/rng.h"
#include "tests/mmu_env.h"

#define OPS TEST_SCALE(2000u)
#define VCPUS 2

static u64 stamp(u64 page, u64 vcpu, u64 count)
{
	u64 body = page << 48 | vcpu << 40 | (count & 0xffffff) << 16;

	return body | (rng_mix(body, 1) & 0xffff);
}

static bool stamp_fits(u64 word, u64 page)
{
	return !word || (word >> 48 == page && word == stamp(page, word >> 40 & 0xff, word >> 16));
}

struct guest {
	struct tv tv;
	struct rng rng;
	u64 accesses, refused;
	u64 steps; /* read by the host, which waits for some between operations */
};

static void guest_step(struct guest *guest, u64 count)
{
	u64 page = rng_below(&guest->rng, ENV_PAGES);
	bool write = rng_below(&guest->rng, 2);
	u64 word = stamp(page, guest->tv.vcpu.id, count);
	u32 offset = rng_below(&guest->rng, 4) * 1024;

	if (!tv_access(&guest->tv, env_gpa(page) + offset, write, &word)) {
		/* Unmapped just now, protected, or without a slot. Outside guest mode. */
		CHECK_MSG(guest->tv.result == -EFAULT || guest->tv.result == MMU_FAULT_MMIO, "fault returned %d",
			  guest->tv.result);
		guest->refused++;
		while (mmu_vcpu_enter(&guest->tv.vcpu))
			;
		return;
	}
	if (!write)
		CHECK_MSG(stamp_fits(word, page), "page %llu reads %#llx", (unsigned long long)page,
			  (unsigned long long)word);
	guest->accesses++;
}

static void guest_main(struct tv *tv)
{
	struct guest *guest = container_of(tv, struct guest, tv);
	u64 count = 0;

	while (mmu_vcpu_enter(&tv->vcpu))
		;
	while (!READ_ONCE(tv->stop)) {
		guest_step(guest, ++count);
		WRITE_ONCE(guest->steps, count);
		if (count % 64)
			continue;
		/* Three busy threads on two processors would mostly wait for each other's time slices. */
		mmu_vcpu_exit(&tv->vcpu);
		thread_sleep_ns(1000);
		while (mmu_vcpu_enter(&tv->vcpu))
			;
	}
	mmu_vcpu_exit(&tv->vcpu);
}

static void host_step(struct env *env, struct rng *rng)
{
	u64 page = rng_below(rng, ENV_PAGES), other = rng_below(rng, ENV_PAGES);
	size_t len = (1 + rng_below(rng, min(8ull, ENV_PAGES - page))) << PAGE_SHIFT;
	hva_t at = env_hva(page), out;

	switch (rng_below(rng, 8)) {
	case 0:
		CHECK_EQ(mm_munmap(env->mm, at, len), 0);
		break;
	case 1:
	case 2:
		CHECK_EQ(mm_mmap(env->mm, at, len, ENV_RW, TAIN_MAP_FIXED, NULL), 0);
		break;
	case 3:
		mm_madvise(env->mm, at, len, TAIN_MADV_DONTNEED);
		break;
	case 4:
		mm_mprotect(env->mm, at, len, rng_below(rng, 3) ? ENV_RW : TAIN_PROT_READ);
		break;
	case 5:
		/* Away and back: the contents stay with their page. */
		if (!mm_mremap(env->mm, at, PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
			       ENV_HVA - (1 + other) * PAGE_SIZE, &out))
			CHECK_EQ(mm_mremap(env->mm, out, PAGE_SIZE, PAGE_SIZE, TAIN_MREMAP_MAYMOVE | TAIN_MREMAP_FIXED,
					   at, &out),
				 0);
		break;
	case 6:
		mm_populate(env->mm, at, len);
		break;
	case 7:
		CHECK_EQ(mmu_set_memslot(env->mmu, 0, 0, 0, 0, 0), 0);
		CHECK_EQ(mmu_set_memslot(env->mmu, 0, ENV_GFN, ENV_PAGES, ENV_HVA, 0), 0);
		break;
	}
}

/* However busy the machine is: each operation meets guests that are under way. */
static void wait_for_steps(struct guest *guest)
{
	u64 before = READ_ONCE(guest->steps);

	while (READ_ONCE(guest->steps) == before)
		thread_sleep_ns(1000);
}

static void run(u64 seed, bool hostile, unsigned int delays)
{
	struct guest guest[VCPUS];
	struct mmu_mismatch m = { 0 };
	struct env env;
	struct rng rng;
	unsigned int i;

	REQUIRE(env_init(&env));
#if PROVE
	mmu_hostile = hostile;
#endif
#if CHECKING
	race_delays(seed, delays);
#endif
	rng_seed(&rng, seed);
	for (i = 0; i < VCPUS; i++) {
		tv_init(&guest[i].tv, &env, i);
		rng_seed(&guest[i].rng, rng_mix(seed, i + 1));
		guest[i].accesses = guest[i].refused = guest[i].steps = 0;
		tv_start(&guest[i].tv, guest_main);
	}
	for (i = 0; i < OPS && !test_failures(); i++) {
		wait_for_steps(&guest[i % VCPUS]);
		host_step(&env, &rng);
		CHECK_MSG(!env_audit(&env, &m),
			  "seed %llu, operation %u: gfn %#llx, mirrored %#llx, host %#llx, tlb %d",
			  (unsigned long long)seed, i, (unsigned long long)m.gfn, (unsigned long long)m.mirrored,
			  (unsigned long long)m.host, m.tlb);
	}
	for (i = 0; i < VCPUS; i++)
		WRITE_ONCE(guest[i].tv.stop, 1);
	for (i = 0; i < VCPUS; i++)
		tv_join(&guest[i].tv);
#if CHECKING
	race_delays(0, 0);
#endif
	for (i = 0; i < VCPUS; i++) {
		CHECK_GT(guest[i].accesses, 0);
		tv_fini(&guest[i].tv);
	}
	CHECK_EQ(frame_arena_verify(env.arena), 0);
	CHECK_EQ(env.corrupted, 0);
	env_fini(&env);
}

static void everything_at_once(void)
{
	run(1, false, 0);
}

#if CHECKING
static void everything_at_once_hostile(void)
{
	run(2, true, 0);
}

static void everything_at_once_with_delays(void)
{
	run(3, true, 20);
}
#endif

const struct test_case mmu_random_tests[] = {
	TEST(everything_at_once),
#if CHECKING
	TEST(everything_at_once_hostile),
	TEST(everything_at_once_with_delays),
#endif
	TEST_END,
};
