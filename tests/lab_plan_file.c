/* SPDX-License-Identifier: MIT */
/* Plans as files: what is written is read again, and what is wrong is named. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/host/host.h"
#include "lab/plan/plan_file.h"
#include "tests/lab_suites.h"

static char path[64];

static void write_text(const char *text)
{
	int fd;

	snprintf(path, sizeof(path), "/tmp/tain-test-plan-XXXXXX");
	fd = mkstemp(path);
	REQUIRE(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void what_is_written_is_read(void)
{
	struct plan_file out = {
		.engine = "kvm",
		.backing = HOST_MEMFD,
		.vcpus = 3,
		.write_percent = 7,
		.bytes = 100 * PAGE_SIZE,
		.seed = 12345,
		.delay_ns = 1500,
		.audit = 9,
		.repeat = 4,
	};
	struct plan_file in;
	struct err err = { "" };
	struct plan plan;

	plan_init(&plan, 77, 100, PLAN_OPS_BASIC);
	REQUIRE_EQ(plan_file_fill(&out, &plan, 200), 0);
	write_text("");
	CHECK_EQ(plan_file_save(&out, path, &err), 0);
	CHECK_MSG(!plan_file_load(&in, path, &err), "%s", err.text);
	unlink(path);
	CHECK_STR(in.engine, "kvm");
	CHECK_STR(in.mutant, "");
	CHECK_EQ(in.backing, HOST_MEMFD);
	CHECK_EQ(in.vcpus, 3);
	CHECK_EQ(in.write_percent, 7);
	CHECK_EQ(in.bytes, out.bytes);
	CHECK_EQ(in.seed, 12345);
	CHECK_EQ(in.delay_ns, 1500);
	CHECK_EQ(in.audit, 9);
	CHECK_EQ(in.repeat, 4);
	REQUIRE_EQ(in.nr, 200);
	for (u64 i = 0; i < in.nr && !test_failures(); i++) {
		const struct plan_step *a = &in.step[i], *b = &out.step[i];

		CHECK_EQ(a->index, i);
		CHECK_EQ(a->op, b->op);
		CHECK_EQ(a->first, b->first);
		CHECK_EQ(a->pages, b->pages);
		CHECK_EQ(a->hold_ns, b->hold_ns);
		CHECK_EQ(a->restamp << 2 | a->fresh << 1 | a->deny, b->restamp << 2 | b->fresh << 1 | b->deny);
	}
	plan_file_destroy(&in);
	plan_file_destroy(&out);
}

#define HEAD "{\"schema\":\"tain.plan/1\",\"engine\":\"soft\",\"backing\":\"anonymous\",\"vcpus\":1,\"bytes\":65536,"
#define TAIL "\"seed\":1,\"write_percent\":25,\"delay_ns\":0,\"audit\":0,\"repeat\":1,\"steps\":["

static void what_is_wrong_is_named(void)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", ": line 1: " },
		{ "{", ": line 1: " },
		{ "[]", ": not a plan; 'schema' must be \"tain.plan/1\"" },
		{ "{\"schema\":\"tain.result/1\"}", ": not a plan" },
		{ "{\"schema\":\"tain.plan/1\"}", ": 'engine' is missing" },
		{ HEAD "\"sed\":1," TAIL "]}", ": unknown key 'sed', did you mean 'seed'?" },
		{ HEAD "\"seed\":1}", ": 'write_percent' is missing" },
		{ HEAD TAIL "]}", ": 'steps' must be an array of at least one step" },
		{ HEAD TAIL "1]}", ": step 0: must be an object" },
		{ HEAD TAIL "{}]}", ": step 0: 'first' is missing" },
		{ HEAD TAIL "{\"first\":0,\"pages\":1}]}", ": step 0: 'op' must be the name of an operation" },
		{ HEAD TAIL "{\"op\":\"munmpa\",\"first\":0,\"pages\":1}]}",
		  ": step 0: unknown operation 'munmpa', did you mean 'munmap'?" },
		{ HEAD TAIL "{\"op\":\"all\",\"first\":0,\"pages\":1}]}", ": step 0: 'op' must be one operation" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":1},{\"op\":\"uffd\",\"first\":0,\"pages\":1}]}",
		  ": step 1: unknown operation 'uffd'" },
		{ HEAD "\"ranges\":0," TAIL "]}", ": 'ranges' is 0; 1 to 16 are possible" },
		{ HEAD "\"ranges\":17," TAIL "]}", ": 'ranges' is 17; 1 to 16 are possible" },
		{ HEAD "\"ranges\":3," TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":1}]}",
		  ": 16 pages do not divide into 3 ranges" },
		{ HEAD "\"ranges\":4," TAIL "{\"op\":\"remap\",\"first\":3,\"pages\":2}]}",
		  ": step 0: pages 3 to 4 are not in one range of 4 pages" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":17}]}",
		  ": step 0: pages 0 to 16; guest memory has 16" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":16,\"pages\":1}]}",
		  ": step 0: pages 16 to 16; guest memory has 16" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":9223372036854775807,\"pages\":9223372036854775807}]}",
		  "; guest memory has 16" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":0}]}", ": step 0: 'pages' is 0; 1 to " },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":-1,\"pages\":1}]}", ": step 0: 'first' is -1; 0 to " },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":\"0\",\"pages\":1}]}",
		  ": step 0: 'first' must be an integer" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":1,\"deny\":1}]}",
		  ": step 0: 'deny' must be true or false" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":1,\"dny\":true}]}",
		  ": step 0: unknown key 'dny', did you mean 'deny'?" },
		{ HEAD TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":1,\"hold_ns\":99999999999999}]}",
		  ": step 0: 'hold_ns' is 99999999999999; 0 to 60000000000" },
	};
	struct plan_file file;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_text(cases[i].text);
		CHECK_EQ(plan_file_load(&file, path, &err), -EINVAL);
		CHECK_CONTAINS(err.text, cases[i].says);
		CHECK_CONTAINS(err.text, path);
		CHECK_MSG(!strchr(err.text, '\n'), "%s", err.text);
		unlink(path);
	}
	CHECK_EQ(plan_file_load(&file, "/nonexistent/plan", &err), -EINVAL);
	CHECK_CONTAINS(err.text, "cannot read /nonexistent/plan: No such file");
	CHECK_EQ(plan_file_load(&file, "/tmp", &err), -EINVAL);
}

static void a_plant_needs_a_checking_build(void)
{
	struct plan_file file;
	struct err err = { "" };
	int ret;

	write_text(HEAD TAIL "{\"op\":\"remap\",\"first\":0,\"pages\":1,\"plant\":true}]}");
	ret = plan_file_load(&file, path, &err);
	unlink(path);
	CHECK_EQ(ret, CHECKING ? 0 : -EINVAL);
	if (ret)
		CHECK_CONTAINS(err.text, ": step 0: 'plant' works in the prove, asan and tsan builds only");
	else
		CHECK(file.step[0].plant);
	plan_file_destroy(&file);
}

const struct test_case lab_plan_file_tests[] = {
	TEST(what_is_written_is_read),
	TEST(what_is_wrong_is_named),
	TEST(a_plant_needs_a_checking_build),
	TEST_END,
};
