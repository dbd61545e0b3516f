/* SPDX-License-Identifier: MIT */
/* tain matrix: four forms of one result, refusals, and a machine that is as it was. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lab/host/op.h"
#include "lib/thread.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

static json_t *cell_of(json_t *doc, const char *op, const char *backing)
{
	json_t *list = json_object_get(doc, "matrix"), *cell;
	size_t i;

	json_array_foreach(list, i, cell)
	{
		if (!strcmp(json_text(cell, "operation"), op) && !strcmp(json_text(cell, "backing"), backing))
			return cell;
	}
	CHECK_MSG(false, "no cell %s on %s", op, backing);
	return NULL;
}

static void check_html(void)
{
	char text[65536] = "", path[512];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s", tain_path("m.html"));
	f = fopen(path, "r");
	if (!CHECK_MSG(f, "%s is there", path))
		return;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	CHECK_MSG(!strncmp(text, "<!DOCTYPE html>\n", 16), "it is a page: '%.40s'", text);
	CHECK_CONTAINS(text, "dontneed <span>");
	CHECK_CONTAINS(text, "<td class=\"zeros\">zeros</td>");
	CHECK_CONTAINS(text, "</html>\n");
	for (const char *const *w = WORDS("<script", "src=", "href=", "url(", "@import"); *w; w++)
		CHECK_MSG(!strstr(text, *w), "the page has '%s'", *w);
}

static void all_forms_of_soft(void)
{
	const struct tain_run *r = TAIN("matrix", "-e", "soft", "--ops", "dontneed,mprotect,punch", "--json", "m.json",
					"--html", "m.html");
	json_t *doc, *cell;

	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "tain matrix: engine soft, MMU tain EPT, host mm tain mmap_sem");
	CHECK_CONTAINS(r->out.text, "3 cells: 2 done, 0 refused, 1 skipped, 0 wrong");
	for (const char *line = r->out.text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
		CHECK_MSG(end - line <= 120, "%d columns: '%.*s'", (int)(end - line), (int)(end - line), line);
	doc = tain_json_file("m.json");
	if (!doc)
		return;
	check_result_keys(doc, WORDS("matrix"));
	CHECK_STR(json_text(doc, "schema"), "tain.result/1");
	CHECK_STR(json_text(doc, "command"), "matrix");
	CHECK_EQ(json_array_size(json_object_get(doc, "matrix")), 3);
	cell = cell_of(doc, "dontneed", "anonymous");
	if (cell) {
		CHECK_STR(json_text(cell, "state"), "done");
		CHECK_STR(json_text(cell, "after"), "zeros");
		CHECK_EQ(json_u64(cell, "freed_percent"), 100);
		CHECK_EQ(json_u64(cell, "zapped_pages"), 1024);
		CHECK(json_is_null(json_object_get(cell, "uffd_events")));
		CHECK_GT(json_u64(json_object_get(cell, "guest_read"), "p50"), 0);
		CHECK_EQ(json_is_null(json_object_get(json_object_get(cell, "guest_read"), "p99")),
			 json_u64(json_object_get(cell, "guest_read"), "count") < 100);
	}
	cell = cell_of(doc, "mprotect", "anonymous");
	if (cell) {
		CHECK_STR(json_text(cell, "during"), "fault");
		CHECK_STR(json_text(cell, "after"), "old data");
	}
	check_html();
	CHECK_EQ(tain_dir_files(), 2);
}

static void tap_of_soft(void)
{
	const struct tain_run *r = TAIN("matrix", "-e", "soft", "--ops", "munmap,fork", "--tap");

	CHECK_EQ(r->status, 0);
	CHECK_MSG(!strncmp(r->out.text, "TAP version 13\n1..2\n", 20), "'%s'", r->out.text);
	CHECK_CONTAINS(r->out.text, "\nok 1 - munmap on anonymous: guest sees zeros, freed all, frames ");
	CHECK_CONTAINS(r->out.text, "\nok 2 - fork on anonymous # SKIP skipped: tain's mm does not have it");
}

static void refusals(void)
{
	check_refused(TAIN("matrix", "-e", "soft", "--ops", "dontned"), 2,
		      "unknown operation 'dontned', did you mean 'dontneed'?; `tain list ops` names them");
	check_refused(TAIN("matrix", "-e", "soft", "--ops", "punch,memslot"), 2,
		      "--ops punch,memslot: not all are of the table; of `tain list ops` it has munmap to populate");
	check_refused(TAIN("matrix", "-e", "soft", "--backings", "memfdd"), 2,
		      "unknown backing 'memfdd', did you mean 'memfd'?; `tain list backings` names them");
	check_refused(TAIN("matrix", "-e", "soft", "--html", "missing/x.html"), 2,
		      "--html: cannot write to missing: No such file or directory");
	check_refused(TAIN("matrix", "-e", "soft", "--html", "-"), 2, "--html wants the name of a file");
	check_refused(TAIN("matrix", "-e", "sofd"), 2,
		      "unknown engine 'sofd', did you mean 'soft'?; `tain list engines` names them");
	/* Nothing of what was asked for is possible: skipped, and the table says why. */
	CHECK_EQ(TAIN("matrix", "-q", "-e", "soft", "--ops", "fork")->status, 4);
}

/* A memfd of 8 MiB is more than this process may write: that cell fails, and no other. */
static void a_failed_cell_is_one_cell(void)
{
	const struct tain_setup setup = { .before = WORDS("sh", "-c", "ulimit -f 1024; exec \"$0\" \"$@\"") };
	const struct tain_run *r;
	json_t *doc, *cell;

	if (!kvm_or_skip())
		return;
	r = TAIN_WITH(&setup, "matrix", "--ops", "dontneed", "-s", "anonymous,memfd,shmem", "--tap", "--json",
		      "m.json");
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->out.text, "\n1..3\n");
	CHECK_CONTAINS(r->out.text, "\nok 1 - dontneed on anonymous: ");
	CHECK_CONTAINS(r->out.text, "\nnot ok 2 - dontneed on memfd\n");
	CHECK_CONTAINS(r->out.text, "message: \"failed: memfd: cannot set the file's size: File too large\"");
	CHECK_CONTAINS(r->out.text, "\nok 3 - dontneed on shmem: ");
	CHECK_MSG(!strstr(r->out.text, "Bail out!"), "'%s'", r->out.text);
	doc = tain_json_file("m.json");
	cell = doc ? cell_of(doc, "dontneed", "memfd") : NULL;
	if (!cell)
		return;
	CHECK_EQ(json_array_size(json_object_get(doc, "matrix")), 3);
	CHECK_STR(json_text(cell, "state"), "failed");
	CHECK_CONTAINS(json_text(cell, "why"), "File too large");
	CHECK(json_is_null(json_object_get(cell, "freed_percent")));
	CHECK(json_is_null(json_object_get(cell, "guest_read")));
}

/* Cells that a signal kept from being tried are missing from a plan that names them all. */
static void a_signal_bails_out(void)
{
	const struct tain_setup setup = { .err_terminal = true };
	unsigned int told, all = 0;
	char why[64];
	struct tain_run *r;
	json_t *doc, *skip;
	size_t i;

	if (!kvm_or_skip())
		return;
	r = tain_start(&setup, WORDS("matrix", "--tap", "--json", "m.json"));
	tain_expect(r, &r->err, "tain matrix: ", 1); /* whichever cell it is at by then */
	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_MSG(sscanf(r->out.text, "TAP version 13\n1..%u\n", &all) == 1, "'%s'", r->out.text);
	CHECK_EQ(all, OP_NR * HOST_BACKING_NR);
	told = tain_count(r->out.text, "\nok ") + tain_count(r->out.text, "\nnot ok ");
	if (told < all) {
		CHECK_EQ(r->status, 130);
		CHECK_CONTAINS(r->out.text, "\nBail out! interrupted by a signal\n");
		doc = tain_json_file("m.json");
		told = 0;
		snprintf(why, sizeof(why), " of %u were not tried: interrupted", all);
		json_array_foreach(json_object_get(doc, "skips"), i, skip) told +=
			strstr(json_text(skip, "why"), why) != NULL;
		CHECK_EQ(told, 1);
	}
}

/* --- the machine -------------------------------------------------------------------------------- */

static void kvm_puts_the_machine_back(void)
{
	struct machine_state before;
	const struct tain_run *r;
	json_t *doc, *cell;

	if (!may_change_the_machine())
		return;
	read_machine(&before);
	r = TAIN("matrix", "--allow-system", "--ops", "pageout,merge,dontneed", "-s", "anonymous,anonymous_hugetlb_2mb",
		 "--json", "-", "-q");
	CHECK_MSG(r->status == 0, "status %d: %s", r->status, r->err.text);
	check_machine(&before);
	doc = tain_json(r->out.text);
	cell = doc ? cell_of(doc, "merge", "anonymous") : NULL;
	if (cell)
		CHECK_STR(json_text(cell, "after"), "old data");
}

/* kill -9 while KSM runs on tain's behalf: somebody else puts it back. */
static void killed_in_the_middle(void)
{
	if (may_change_the_machine())
		kill_in_the_middle(WORDS("matrix", "--allow-system", "--ops", "merge,pageout", "-s",
					 "anonymous,anonymous_thp,memfd_private,anonymous_hugetlb_2mb", "-q"));
}

static void kvm_without_leave_changes_nothing(void)
{
	struct machine_state before;
	const struct tain_run *r;

	if (!kvm_or_skip())
		return;
	test_own_machine();
	read_machine(&before);
	r = TAIN("matrix", "--ops", "merge,compact,punch", "-s", "anonymous", "--tap");
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, "compact on anonymous # SKIP skipped: ");
	CHECK_CONTAINS(r->out.text, "merge on anonymous # SKIP skipped: ");
	CHECK_CONTAINS(r->out.text, "punch on anonymous # SKIP refused: there is no descriptor");
	check_machine(&before);
}

const struct test_case cmd_matrix_tests[] = {
	TEST(all_forms_of_soft),	 TEST(tap_of_soft),	     TEST(refusals),
	TEST(a_failed_cell_is_one_cell), TEST(a_signal_bails_out),   TEST(kvm_without_leave_changes_nothing),
	TEST(kvm_puts_the_machine_back), TEST(killed_in_the_middle), TEST_END,
};
