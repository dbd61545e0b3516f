/* SPDX-License-Identifier: MIT */
/* EMM: the chain, the answers, the two versions (rules E1 to E4). Its registration race is in notifier_admit.c. */
#include <string.h>

#include "tests/notifier_env.h"

struct chained {
	struct emm_notifier emm;
	char name;
	int answer;
};

static char log_text[128];

static int hear_emm(struct emm_notifier *e, struct notifier_mm *mm, enum emm_operation op, hva_t start, hva_t end)
{
	struct chained *c = container_of(e, struct chained, emm);
	size_t len = strlen(log_text);

	if (len + 3 < sizeof(log_text)) {
		log_text[len] = "rseq"[op];
		log_text[len + 1] = c->name;
		log_text[len + 2] = '\0';
	}
	return op == emm_release ? 0 : c->answer;
}

static void chain(enum emm_version version, const char *mutant_name, bool stops)
{
	struct chained a = { .emm.callback = hear_emm, .name = 'A' }, b = a, c = a;
	struct mmu_notifier_range range;
	struct owner owner;

	b.name = 'B';
	c.name = 'C';
	owner_init(&owner);
	CHECK_EQ(emm_notifier_register(&a.emm, &owner.mm, version), 0);
	CHECK_EQ(emm_notifier_register(&b.emm, &owner.mm, version), 0);
	CHECK_EQ(emm_notifier_register(&b.emm, &owner.mm, version), -EEXIST);
	CHECK_EQ(emm_notifier_register(&c.emm, &owner.mm, version == EMM_V1 ? EMM_V3 : EMM_V1), -EINVAL);
	CHECK_EQ(emm_notifier_register(&c.emm, &owner.mm, version), 0);
	mutant_set(mutant_name);
	range = owner_range(&owner, true);
	b.answer = 1;
	log_text[0] = '\0';
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	/* Catalogue 2: A, behind B, is told nothing: what it maps of the range is lost on it. */
	CHECK_STR(log_text, stops ? "sCsBeCeB" : "sCsBsAeCeBeA");

	/* Positive: referenced. An error is kept and drowns what is positive. */
	log_text[0] = '\0';
	CHECK_EQ(emm_notify_referenced(&owner.mm, 0x1000, 0x2000, false), 1);
	CHECK_STR(log_text, stops ? "qCqB" : "qCqBqA");
	a.answer = -EIO;
	CHECK_EQ(emm_notify_referenced(&owner.mm, 0x1000, 0x2000, false), stops);
	a.answer = b.answer = 0;
	log_text[0] = '\0';
	CHECK_EQ(emm_notify_referenced(&owner.mm, 0x1000, 0x2000, true), 1); /* V1 does not ask for a young entry */
	CHECK_STR(log_text, version == EMM_V1 ? "" : "qCqBqA");
	/* It knows no callback that may not block. */
	range.blockable = false;
	CHECK_EQ(mmu_notifier_invalidate_range_start(&range), -EAGAIN);
	mutant_set(NULL);
	log_text[0] = '\0';
	owner.mm.users = 0;
	mmu_notifier_release(&owner.mm);
	CHECK_STR(log_text, "rCrBrA");
	CHECK(!mm_has_notifiers(&owner.mm));
	owner_fini(&owner);
}

static void chain_v1(void)
{
	chain(EMM_V1, NULL, true);
}

static void chain_v3(void)
{
	chain(EMM_V3, NULL, false);
}

static void mutant_e3_stop_at_first(void)
{
#if CHECKING
	chain(EMM_V3, "e3-stop-at-first", true);
#endif
}

/* What is called after its release is counted, no more. */
static u32 releases;

static int count_emm(struct emm_notifier *e, struct notifier_mm *mm, enum emm_operation op, hva_t start, hva_t end)
{
	if (op == emm_release)
		fetch_add(&releases, 1);
	return 0;
}

static void registered_again(void)
{
	struct emm_notifier a = { .callback = count_emm }, b = a;

	releases = 0;
	for (u32 turn = 1; turn <= 3; turn++) {
		struct owner owner;

		owner_init_with(&owner, turn & 1 ? NOTIFIER_ADMIT_SECTION : NOTIFIER_ADMIT_MM_LOCK);
		CHECK_EQ(emm_notifier_register(&a, &owner.mm, EMM_V3), 0);
		CHECK_EQ(emm_notifier_register(&b, &owner.mm, EMM_V3), 0);
		CHECK_EQ(emm_notifier_register(&a, &owner.mm, EMM_V3), -EEXIST);
		owner.mm.users = 0;
		mmu_notifier_release(&owner.mm);
		CHECK_EQ(releases, 2 * turn);
		owner_fini(&owner);
	}
}

#if CHECKING
/*
 *   section                     exit
 *   start: tells B
 *                               releases B, A
 *          tells A: released
 *   end
 *                               returns: now they may be freed, or registered again
 */
static void exit_waits_for_the_chain(void)
{
	struct emm_notifier a = { .callback = count_emm }, b = a;
	struct actor section, leaver;
	struct race_gate gate;
	struct owner owner, next;

	owner_init(&owner);
	owner_init(&next);
	releases = 0;
	CHECK_EQ(emm_notifier_register(&a, &owner.mm, EMM_V3), 0);
	CHECK_EQ(emm_notifier_register(&b, &owner.mm, EMM_V3), 0);
	race_arm(&gate, "notifier:between_emm", 1);
	REQUIRE(act(&section, do_section, &owner, NULL));
	race_wait(&gate);
	owner.mm.users = 0;
	REQUIRE(act(&leaver, do_release, &owner.mm, NULL));
	while (READ_ONCE(releases) < 2)
		thread_yield();
	CHECK(!is_done(&leaver));
	CHECK_EQ(emm_notifier_register(&a, &next.mm, EMM_V3), -EEXIST);
	race_release(&gate);
	thread_join(&section.thread);
	thread_join(&leaver.thread);
	race_disarm(&gate);
	CHECK_EQ(emm_notifier_register(&a, &next.mm, EMM_V3), 0);
	CHECK_EQ(emm_notifier_register(&b, &next.mm, EMM_V3), 0);
	next.mm.users = 0;
	mmu_notifier_release(&next.mm);
	owner_fini(&next);
	owner_fini(&owner);
}
#endif

static void arguments(void)
{
	struct chained a = { .emm.callback = NULL };
	struct owner owner;

	owner_init(&owner);
	CHECK_EQ(emm_notifier_register(NULL, &owner.mm, EMM_V3), -EINVAL);
	CHECK_EQ(emm_notifier_register(&a.emm, &owner.mm, EMM_V3), -EINVAL);
	a.emm.callback = hear_emm;
	CHECK_EQ(emm_notifier_register(&a.emm, NULL, EMM_V3), -EINVAL);
	CHECK_EQ(emm_notifier_register(&a.emm, &owner.mm, (enum emm_version)2), -EINVAL);
	owner.take_all_locks = -EPERM;
	CHECK_EQ(emm_notifier_register(&a.emm, &owner.mm, EMM_V3), -EPERM);
	owner.mm.users = 0;
	CHECK_EQ(emm_notifier_register(&a.emm, &owner.mm, EMM_V3), -EINVAL);
	CHECK(!mm_has_notifiers(&owner.mm));
	CHECK(!emm_notify_referenced(&owner.mm, 0, 0x1000, false));
	owner_fini(&owner);
}

const struct test_case notifier_emm_tests[] = { TEST(chain_v1),
						TEST(chain_v3),
						TEST(mutant_e3_stop_at_first),
						TEST(arguments),
						TEST(registered_again),
#if CHECKING
						TEST(exit_waits_for_the_chain),
#endif
						TEST_END };
