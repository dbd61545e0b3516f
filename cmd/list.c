/* SPDX-License-Identifier: MIT */
/* tain list: names that other commands take. */
#include <string.h>

#include "cmd/cmd.h"
#include "lab/bench/bench.h"
#include "lab/bench/outside.h"
#include "lab/host/host.h"
#include "lab/bench/interference.h"
#include "lab/plan/plan.h"
#include "lib/mutant.h"

static struct {
	bool quiet;
} opt;

static const struct option_spec options[] = {
	CMD_OPTION('q', "quiet", NULL, OPTION_FLAG, &opt.quiet, "names only, one a line", .no_env = true),
};

const struct command_spec cmd_list_spec = {
	.name = "tain list",
	.summary = "List engines, guests, operations (outside too), backings, causes, disturbers or mutants.",
	.args = "engines|guests|ops|backings|causes|disturbers|outside|mutants",
	.options = options,
	.nr_options = ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = 1,
};

static void item(const char *name, const char *summary)
{
	if (opt.quiet)
		printf("%s\n", name);
	else
		printf("%-22s  %s\n", name, summary);
}

static void list_engines(void)
{
	for (const struct engine *const *e = engine_all(); *e; e++) {
		struct err why = { "" };

		item((*e)->name, (*e)->summary);
		if (opt.quiet)
			continue;
		if ((*e)->probe(&why))
			printf("%-22s  cannot run here: %s\n", "", why.text);
		else
			printf("%-22s  runs here; needs %s\n", "", (*e)->needs);
	}
}

static void list_guests(void)
{
	for (const struct guest_info *g = guest_list(); g->name; g++)
		item(g->name, g->summary);
}

static void list_ops(void)
{
	for (int op = 0; op < PLAN_OP_NR; op++)
		item(plan_op_name(op), plan_op_summary(op));
}

static void list_backings(void)
{
	for (const struct host_backing_info *b = host_backing_table; b->name; b++)
		item(b->name, b->summary);
}

static void list_causes(void)
{
	for (const struct bench_cause_info *c = bench_cause_table; c->name; c++)
		item(c->name, c->summary);
}

static void list_disturbers(void)
{
	for (const struct disturber_info *d = disturber_table; d->name; d++)
		item(d->name, d->summary);
}

static void list_outside(void)
{
	for (const struct outside_op_info *o = outside_op_table; o->name; o++)
		item(o->name, o->summary);
}

static void list_mutants(void)
{
	for (const struct mutant_info *m = mutant_table(); m->name; m++) {
		item(m->name, m->story);
		if (opt.quiet)
			continue;
		printf("%-22s  ", "");
		if (m->number)
			printf("number %u of the catalogue, ", m->number);
		printf("%u; noticed as: %s\n", m->year, m->oracle);
	}
	for (const struct mutant_gap *g = mutant_gaps(); g->story && !opt.quiet; g++)
		printf("%-20s  %s\n%-20s  number %u of the catalogue, %u; not put back: %s\n", "(none)", g->story, "",
		       g->number, g->year, g->why);
	if (!opt.quiet && !CHECKING)
		printf("\nThis build has no mutants compiled in; `make prove` makes build/prove/tain, which has.\n");
}

static const struct {
	const char *name;
	void (*list)(void);
} lists[] = {
	{ "engines", list_engines },   { "guests", list_guests },   { "ops", list_ops },
	{ "backings", list_backings }, { "causes", list_causes },   { "disturbers", list_disturbers },
	{ "outside", list_outside },   { "mutants", list_mutants },
};

int cmd_list(int argc, char **argv)
{
	const char *names[ARRAY_SIZE(lists) + 1] = { NULL }, *near;
	int first, status;

	if (!cmd_parse(&cmd_list_spec, argc, argv, &first, &status))
		return status;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		names[i] = lists[i].name;
		if (strcmp(argv[first], lists[i].name))
			continue;
		lists[i].list();
		return cmd_finish(CMD_OK);
	}
	near = option_nearest(argv[first], names);
	return cmd_complain(CMD_MISUSE, "there is no list of '%s'%s%s%s; it is one of %s", argv[first],
			    near ? ", did you mean '" : "", near ?: "", near ? "'?" : "", cmd_list_spec.args);
}
