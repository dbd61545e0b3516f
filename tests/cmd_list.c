/* SPDX-License-Identifier: MIT */
/* What the command says about itself and the machine: list, doctor. */
#include <stdio.h>
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"
#include "vmm/engine.h"

/* --- list ----------------------------------------------------------------------------------- */

/* What this version has at least; names may be added. */
static const struct {
	const char *list;
	const char *names[8];
} lists[] = {
	{ "engines", { "soft", "kvm" } },
	{ "guests", { "hello", "touch", "stride", "random", "stamp", "counter" } },
	{ "ops", { "munmap", "remap", "mprotect", "dontneed", "mremap" } },
	{ "backings", { "anonymous", "memfd" } },
	{ "outside", { "none", "punch", "suspend", "balloon", "plug", "migrate", "restore" } },
	{ "mutants", { "k4-no-seq-check", "k4-check-before-lock", "k12-no-flush", "k23-no-wait" } },
};

static bool has_line(const char *text, const char *begin, const char *next)
{
	size_t n = strlen(begin);

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (!strncmp(text, begin, n) && !strncmp(text + n, next, strlen(next)))
			return true;
	}
	return false;
}

/* -q: a name a line and nothing else, each of them explained without -q. */
static void check_names(const char *names, const char *explained)
{
	char copy[4096], *rest = copy, *name;

	CHECK_LT(strlen(names), sizeof(copy));
	snprintf(copy, sizeof(copy), "%s", names);
	while ((name = strsep(&rest, "\n")) != NULL && rest) {
		CHECK_MSG(name[0] && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == strlen(name),
			  "'%s' is a name", name);
		CHECK_MSG(has_line(explained, name, "  "), "'%s' is explained in '%s'", name, explained);
	}
}

static void lists_say_all_names(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct tain_run *quiet = TAIN("list", lists[i].list, "-q"), *r = TAIN("list", lists[i].list);

		CHECK_EQ(quiet->status, 0);
		CHECK_EQ(r->status, 0);
		CHECK_STR(quiet->err.text, "");
		CHECK_STR(r->err.text, "");
		check_names(quiet->out.text, r->out.text);
		for (const char *const *name = lists[i].names; *name; name++)
			CHECK_MSG(has_line(quiet->out.text, *name, "\n"), "list %s has '%s'", lists[i].list, *name);
		CHECK_STR(TAIN("list", "--quiet", lists[i].list)->out.text, quiet->out.text);
	}
}

static void engines_say_whether_they_run_here(void)
{
	const struct tain_run *r = TAIN("list", "engines");
	struct err why = { "" };
	char line[sizeof(why.text) + 64] = "runs here; needs /dev/kvm\n";

	CHECK_CONTAINS(r->out.text, "runs here; needs nothing\n");
	if (engine_find("kvm")->probe(&why))
		snprintf(line, sizeof(line), "cannot run here: %s\n", why.text);
	CHECK_CONTAINS(r->out.text, line);
}

static void mutants_say_whether_they_are_in(void)
{
	bool left_out = strstr(TAIN("list", "mutants")->out.text, "This build has no mutants compiled in") != NULL;

	CHECK_EQ(left_out, !CHECKING);
}

/* --- doctor ------------------------------------------------------------------------------------ */

static bool known_state(const char *state)
{
	return !strcmp(state, "ok") || !strcmp(state, "missing") || !strcmp(state, "note");
}

static void check_finding(json_t *finding, const char *text)
{
	const char *name = json_text(finding, "name"), *state = json_text(finding, "state");
	json_t *repair = json_object_get(finding, "repair");
	char line[64];

	check_keys(finding, WORDS("name", "state", "text", "repair"));
	CHECK_MSG(known_state(state), "%s: state '%s'", name, state);
	CHECK_MSG(json_text(finding, "text")[0], "%s says something", name);
	CHECK_MSG(json_is_null(repair) || json_string_length(repair), "%s: a repair is null or a command", name);
	CHECK_MSG(strcmp(state, "ok") || json_is_null(repair), "%s is ok and needs no repair", name);
	snprintf(line, sizeof(line), "%-16s %s", name, state);
	CHECK_MSG(has_line(text, line, " "), "the text has '%s'", line);
	if (json_is_string(repair))
		CHECK_CONTAINS(text, json_string_value(repair));
}

static json_t *finding_of(json_t *doc, const char *name)
{
	json_t *list = json_object_get(doc, "findings"), *finding;
	size_t i;

	json_array_foreach(list, i, finding) if (!strcmp(json_text(finding, "name"), name)) return finding;
	CHECK_MSG(false, "no finding %s", name);
	return NULL;
}

static void doctor_says_the_same_to_people_and_programs(void)
{
	const struct tain_run *text, *r;
	json_t *doc, *finding;
	size_t i;

	test_own_machine(); /* it is the same both times */
	text = TAIN("doctor");
	r = TAIN("doctor", "--json", "-");
	doc = tain_json(r->out.text);
	CHECK_EQ(text->status, 0);
	CHECK_EQ(r->status, 0);
	CHECK_STR(text->err.text, "");
	if (!doc)
		return;
	check_keys(doc, WORDS("schema", "version", "kernel", "findings"));
	CHECK_STR(json_text(doc, "schema"), "tain.doctor/1");
	CHECK_STR(json_text(doc, "version"), TAIN_VERSION);
	CHECK_GE(json_array_size(json_object_get(doc, "findings")), 10);
	json_array_foreach(json_object_get(doc, "findings"), i, finding) check_finding(finding, text->out.text);
	/* With the document on stdout, people read stderr. */
	CHECK_MSG(has_line(r->err.text, "engine soft", " "), "stderr has the findings: '%s'", r->err.text);
}

static void doctor_finds_the_engines_that_run(void)
{
	json_t *doc, *soft, *kvm;
	struct err why = { "" };
	int ret = engine_find("kvm")->probe(&why);

	CHECK_EQ(TAIN("doctor", "--json", "doctor.json")->status, 0);
	doc = tain_json_file("doctor.json");
	soft = finding_of(doc, "engine soft");
	kvm = finding_of(doc, "engine kvm");
	if (!soft || !kvm)
		return;
	CHECK_STR(json_text(soft, "state"), "ok");
	CHECK_STR(json_text(soft, "text"), "runs; MMU tain EPT, host mm tain mmap_sem, CPU software");
	CHECK_STR(json_text(kvm, "state"), ret ? "missing" : "ok");
	if (ret)
		CHECK_STR(json_text(kvm, "text"), why.text);
	else
		CHECK_CONTAINS(json_text(kvm, "text"), "runs; MMU KVM ");
}

static void quiet_doctor_says_what_is_missing(void)
{
	const struct tain_run *r = TAIN("doctor", "-q", "--json", "doctor.json");
	json_t *doc = tain_json_file("doctor.json"), *finding;
	unsigned int missing = 0;
	size_t i;

	CHECK_EQ(r->status, 0);
	CHECK_STR(r->err.text, "");
	json_array_foreach(json_object_get(doc, "findings"), i, finding) missing +=
		!strcmp(json_text(finding, "state"), "missing");
	CHECK_EQ(tain_count(r->out.text, " missing "), missing);
	CHECK_MSG(!strstr(r->out.text, " ok "), "'%s' says what is well", r->out.text);
	CHECK_EQ(tain_dir_files(), 1);
}

const struct test_case cmd_list_tests[] = {
	TEST(lists_say_all_names),
	TEST(engines_say_whether_they_run_here),
	TEST(mutants_say_whether_they_are_in),
	TEST(doctor_says_the_same_to_people_and_programs),
	TEST(doctor_finds_the_engines_that_run),
	TEST(quiet_doctor_says_what_is_missing),
	TEST_END,
};
