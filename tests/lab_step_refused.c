/* SPDX-License-Identifier: MIT */
/* Steps that do not happen: the host lacks the operation, it fails, or the kernel refuses. Every stamp is right
 * afterwards. */
#include "tests/lab_sim.h"

static void an_operation_the_host_lacks(void)
{
	struct plan_step step = { .op = PLAN_REMAP, .first = PAGE, .pages = 2, .restamp = true };
	static struct sim s;

	if (!sim_init(&s, HOST_ANONYMOUS))
		return;
	s.fake.fail_op = "unsupported:remap";
	CHECK_EQ(step_run(&s.oracle, &step), -EOPNOTSUPP);
	/* nothing happened, and every stamp is still right */
	CHECK_EQ(oracle_verify(&s.oracle), 0);
	CHECK_EQ(s.oracle.log.total, 0);
	oracle_destroy(&s.oracle);
}

static void an_operation_that_fails(void)
{
	static const char *const ops[] = { "map", "remap", "unmap", "protect", "dontneed", "move_away" };
	struct plan_step steps[MAX_STEPS];
	int n = sim_all_steps(steps, HOST_SHMEM), failed; /* the basic ones */
	static struct sim s;

	for (size_t op = 0; op < ARRAY_SIZE(ops); op++) {
		failed = 0;
		for (int i = 0; i < n; i++) {
			if (!sim_init(&s, HOST_ANONYMOUS))
				return;
			s.fake.fail_op = ops[op];
			failed += step_run(&s.oracle, &steps[i]) == -ENOMEM;
			CHECK_EQ(s.oracle.log.total, 0);
			oracle_destroy(&s.oracle);
		}
		CHECK_MSG(failed > 0, "no step passes the error of %s on", ops[op]);
	}
}

/* What the kernel refuses has not happened, and the run goes on: contents and rules agree, whatever was announced. */
static void what_the_kernel_refuses(void)
{
	static const enum host_backing backings[] = { HOST_ANONYMOUS, HOST_MEMFD, HOST_MEMFD_PRIVATE };
	struct plan_step steps[MAX_STEPS];
	static struct sim s;

	for (size_t b = 0; b < ARRAY_SIZE(backings); b++) {
		int n = sim_host_steps(steps, backings[b]);

		for (int i = 0; i < n; i++) {
			if (!sim_init(&s, backings[b]))
				return;
			s.fake.fail_op = op_table[steps[i].op].name;
			CHECK_EQ(step_run(&s.oracle, &steps[i]), STEP_REFUSED);
			CHECK_CONTAINS(s.oracle.why.text, "the fake host refuses ");
			CHECK_EQ(oracle_verify(&s.oracle), 0);
			CHECK_EQ(s.oracle.log.total, 0);
			s.fake.fail_op = NULL;
			CHECK_EQ(step_run(&s.oracle, &steps[i]), 0);
			CHECK_EQ(oracle_verify(&s.oracle), 0);
			CHECK_EQ(s.oracle.log.total, 0);
			oracle_destroy(&s.oracle);
		}
	}
}

/* No kernel does it: the reason is in the table. */
static void what_is_impossible(void)
{
	struct plan_step step = { .op = PLAN_PUNCH, .first = PAGE, .pages = 1 };
	static struct sim s;

	if (!sim_init(&s, HOST_ANONYMOUS))
		return;
	CHECK_EQ(step_run(&s.oracle, &step), -EOPNOTSUPP);
	CHECK_STR(s.oracle.why.text, op_table[PLAN_PUNCH].not_why);
	CHECK_EQ(oracle_verify(&s.oracle), 0);
	CHECK_EQ(s.oracle.log.total, 0);
	oracle_destroy(&s.oracle);
}

const struct test_case lab_step_refused_tests[] = {
	TEST(an_operation_the_host_lacks),
	TEST(an_operation_that_fails),
	TEST(what_the_kernel_refuses),
	TEST(what_is_impossible),
	TEST_END,
};
