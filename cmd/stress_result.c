/* SPDX-License-Identifier: MIT */
/* tain stress: what a run found, as a table and in the document. */
#include "cmd/stress.h"
#include "lab/result/result.h"

/* --- for people ---------------------------------------------------------------------- */

/* What was done; what the plan asked for beside it. */
static void print_ops(const struct stress_result *r, double seconds)
{
	u64 refused = 0;

	for (int i = 0; i < PLAN_OP_NR; i++)
		refused += r->refused[i];
	fprintf(cmd_out, "  %-24s %15s   %s/s", "host operations", cmd_count(r->done),
		cmd_rate(seconds > 0 ? (double)r->done / seconds : 0));
	if (refused)
		fprintf(cmd_out, "; %s refused", cmd_count(refused));
	if (r->skipped)
		fprintf(cmd_out, "; %s skipped", cmd_count(r->skipped));
	fputc('\n', cmd_out);
	for (int i = 0; i < PLAN_OP_NR; i++) {
		if (r->host_ops[i])
			fprintf(cmd_out, "    %-22s %15s\n", plan_op_name(i), cmd_count(r->host_ops[i]));
		if (r->refused[i])
			fprintf(cmd_out, "    %-22s %15s   refused; first: %s\n", plan_op_name(i),
				cmd_count(r->refused[i]), r->why[i].text);
	}
}

void stress_print_table(const struct stress_result *r, u32 vcpus)
{
	double seconds = (double)r->elapsed_ns / 1e9, rate = seconds > 0 ? (double)r->checked / seconds : 0;

	fprintf(cmd_out, "\n  %-24s %15s   %s/s, %s/s per vCPU\n", "checked accesses", cmd_count(r->checked),
		cmd_rate(rate), cmd_rate(rate / vcpus));
	if (r->id.under[0])
		fprintf(cmd_out, "  %-24s %15s   of memory that is the guest's Linux's own\n", "checked beside them",
			cmd_count(r->own_checked));
	fprintf(cmd_out, "  %-24s %15s\n", "guest writes", cmd_count(r->writes));
	fprintf(cmd_out, "  %-24s %15s\n", "second-MMU faults", r->counted ? cmd_count(r->faults) : "-");
	fprintf(cmd_out, "  %-24s %15s   found no memory or no right, and repeated\n", "failed accesses",
		cmd_count(r->retried));
	print_ops(r, seconds);
	if (r->uffd_faults)
		fprintf(cmd_out, "  %-24s %15s   and %s events\n", "userfaultfd faults", cmd_count(r->uffd_faults),
			cmd_count(r->uffd_events));
	if (r->audits)
		fprintf(cmd_out, "  %-24s %15s\n", "exact audits", cmd_count(r->audits));
	fprintf(cmd_out, "  %-24s %15s\n\n", "violations", cmd_count(r->log.total));
}

/* --- the document --------------------------------------------------------------------- */

static void add_count(json_t *to, const char *key, u64 count)
{
	json_object_set_new(to, key, json_integer((json_int_t)count));
}

static void add_counts(json_t *doc, const struct stress_result *r)
{
	result_counts(doc, r->elapsed_ns, r->checked, r->faults);
	if (!r->counted)
		result_faults_unknown(doc);
	if (r->id.under[0])
		add_count(doc, "own_checked", r->own_checked);
	add_count(doc, "violations_total", r->log.total);
	add_count(doc, "guest_writes", r->writes);
	add_count(doc, "failed_accesses", r->retried);
	add_count(doc, "skipped_steps", r->skipped);
	add_count(doc, "uffd_faults", r->uffd_faults);
	add_count(doc, "uffd_events", r->uffd_events);
	add_count(doc, "audits", r->audits);
}

const char *stress_unjudged(const struct stress_config *c, const struct stress_result *r)
{
	static const enum plan_op ops[] = { PLAN_MPROTECT, PLAN_FORK, PLAN_DIRTYLOG, PLAN_UFFD_WP, PLAN_SUSPEND };

	for (size_t i = 0; i < ARRAY_SIZE(ops) && !c->write_percent; i++)
		if (r->host_ops[ops[i]])
			return "the guest makes none (-w 0), and so none that mprotect, fork, dirtylog, uffd_wp or "
			       "suspend "
			       "should have kept away or noted";
	return NULL;
}

void stress_add_result(json_t *doc, const struct stress_config *c, const struct stress_result *r)
{
	json_t *refused = json_object();

	add_counts(doc, r);
	for (int i = 0; i < PLAN_OP_NR; i++) {
		if (r->unsupported & BIT(i) || (r->refused[i] && !r->host_ops[i]))
			result_skip(doc, plan_op_name(i), r->why[i].text);
		else if (c->ops & BIT(i))
			result_host_op(doc, plan_op_name(i), r->host_ops[i]);
		if (r->refused[i])
			json_object_set_new(
				refused, plan_op_name(i),
				json_pack("{sIss}", "count", (json_int_t)r->refused[i], "why", r->why[i].text));
	}
	json_object_set_new(doc, "refused", refused);
	if (stress_unjudged(c, r))
		result_skip(doc, "writes", stress_unjudged(c, r));
	for (u32 i = 0; i < r->log.nr; i++)
		result_violation(doc, &r->log.record[i]);
}
