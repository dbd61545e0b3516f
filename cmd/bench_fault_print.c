/* SPDX-License-Identifier: MIT */
/* tain bench fault: its tables and its document. */
#include <stdio.h>
#include <string.h>

#include "cmd/bench_fault.h"
#include "cmd/cmd.h"
#include "lab/result/result.h"
#include "lib/time.h"

/* --- accesses ------------------------------------------------------------------- */

static const char row_format[] = "  %-22s %9s %7s %7s %7s %7s %8s %9s %10s %10s %9s %9s\n";

static void print_row(const char *name, const struct bench_row *row, u64 overhead, bool counted)
{
	double seconds = (double)row->elapsed_ns / 1e9;
	const struct hist *h = &row->ns;
	u64 p50 = hist_percentile(h, 50);
	bool faulting = row->faults * 16 >= row->accesses; /* else they are somebody else's: warm pages do not fault */

	fprintf(cmd_out, row_format, name, cmd_count(hist_count(h)), cmd_count(hist_min(h)), cmd_count(p50),
		cmd_count(p50 > overhead ? p50 - overhead : 0), cmd_percentile(h, 90), cmd_percentile(h, 99),
		cmd_percentile(h, 99.9), cmd_percentile(h, 99.99), cmd_count(hist_max(h)),
		counted ? cmd_count(row->faults) : "-",
		faulting && seconds > 0 ? cmd_rate((double)row->faults / seconds) : "-");
}

static u64 overhead_of(const struct bench_fault_result *r)
{
	return hist_percentile(&r->row[BENCH_OVERHEAD][BENCH_SEQUENTIAL].ns, 50);
}

static void print_accesses(const struct bench_fault_result *r)
{
	char name[64];

	fprintf(cmd_out, "\nMMU %s; times of one access in %s\n", r->id.mmu, cycles_unit_name());
	fprintf(cmd_out, row_format, "cause", "accesses", "min", "p50", "net p50", "p90", "p99", "p99.9", "p99.99",
		"max", "faults", "faults/s");
	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++)
		for (int order = 0; order < BENCH_APART; order++) {
			if (!r->row[cause][order].ran)
				continue;
			bench_row_name(name, sizeof(name), cause, order);
			print_row(name, &r->row[cause][order], overhead_of(r), bench_row_counted(r, cause));
		}
}

/* --- faults --------------------------------------------------------------------- */

static const char fault_format[] = "  %-22s %8s %8s %8s %8s %9s %10s %10s %8s %8s %8s\n";

static void print_fault(const struct bench_fault_result *r, enum bench_cause cause)
{
	const struct bench_row *row = &r->row[cause][BENCH_APART];
	const struct hist *h = &row->ns;
	struct bench_shares shares;

	bench_shares(r, cause, &shares);
	fprintf(cmd_out, fault_format, bench_cause_table[cause].name, cmd_count(hist_count(h)), cmd_count(hist_min(h)),
		cmd_percentile(h, 50), cmd_percentile(h, 90), cmd_percentile(h, 99), cmd_percentile(h, 99.9),
		cmd_count(hist_max(h)), shares.host_known ? cmd_count(shares.host) : "-",
		shares.host_known ? cmd_count(shares.mmu) : "-",
		bench_row_counted(r, cause) ? cmd_count(row->faults) : "-");
}

static void print_faults(const struct bench_fault_result *r)
{
	bool any = false;

	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++) {
		if (!r->row[cause][BENCH_APART].ran)
			continue;
		if (!any)
			fprintf(cmd_out,
				"\nOne access per sample, at least one fault, pages apart; times in %s; host + MMU + "
				"overhead make p50\n",
				cycles_unit_name());
		if (!any)
			fprintf(cmd_out, fault_format, "cause", "samples", "min", "p50", "p90", "p99", "p99.9", "max",
				"host", "MMU", "faults");
		any = true;
		print_fault(r, cause);
	}
	if (any)
		fprintf(cmd_out,
			"  host: the same memory, prepared the same way, touched by a thread of the host on the "
			"vCPU's\n"
			"  processor, less %s %s of overhead; -: not known, longer alone than the guest's whole fault, "
			"or of\n"
			"  fewer than %d samples; of a percentile: too few samples for it. Where the host replaces "
			"the page\n"
			"  (zero_cow, cow, unmerge), its own change makes the fault come twice\n",
			cmd_count(hist_percentile(&r->host[BENCH_OVERHEAD].ns, 50)), cycles_unit_name(),
			BENCH_SHARES_SAMPLES);
}

static const char traced_format[] = "  %-22s %8s %10s %10s\n";

static void print_traced(const struct bench_fault_result *r)
{
	bool any = false;

	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++) {
		const struct bench_traced *t = &r->traced[cause];

		if (!t->faults)
			continue;
		if (!any)
			fprintf(cmd_out,
				"\nThe same from KVM's events, in ns, recording included: until the host's page is "
				"known,\nwhich is KVM's way there besides the host's work, and from there until the "
				"entry is set\n");
		if (!any)
			fprintf(cmd_out, traced_format, "cause", "faults", "until page", "after");
		any = true;
		fprintf(cmd_out, traced_format, bench_cause_table[cause].name, cmd_count(t->faults),
			cmd_count(t->until_page), cmd_count(t->after_page));
	}
}

static bool told(const struct bench_fault_result *r, enum bench_cause cause)
{
	for (int order = 0; order < BENCH_ORDER_NR; order++)
		if (r->row[cause][order].ran)
			return true;
	return false;
}

void bench_fault_print(const struct bench_fault_result *r)
{
	print_accesses(r);
	print_faults(r);
	print_traced(r);
	fprintf(cmd_out, "\n");
	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++)
		if (told(r, cause))
			fprintf(cmd_out, "  %-22s %s%s%s\n", bench_cause_table[cause].name,
				bench_cause_table[cause].summary, bench_cause_backing(cause) ? "; always on " : "",
				bench_cause_backing(cause) ?: "");
	fprintf(cmd_out, "  net p50: less tain's own overhead per measured access, %s %s\n", cmd_count(overhead_of(r)),
		cycles_unit_name());
	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++)
		if (r->skip[cause][0] && cause != BENCH_TAIN_HOST_FAULT)
			fprintf(cmd_out, "  skipped: %-13s %s\n", bench_cause_table[cause].name, r->skip[cause]);
	if (r->no_trace[0])
		fprintf(cmd_out, "  skipped: %-13s %s\n", "events", r->no_trace);
	cmd_print_histogram(cmd_out, bench_cause_table[BENCH_FIRST_TOUCH].name,
			    &r->row[BENCH_FIRST_TOUCH][BENCH_SEQUENTIAL].ns, 12);
}

/* --- the document ------------------------------------------------------------------ */

static void add_row(json_t *doc, const char *name, struct bench_row *row, u64 resolution)
{
	if (!row->ran)
		return;
	result_histogram(doc, name, cycles_unit_name(), &row->ns);
	result_blocks(doc, name, &row->blocks, resolution);
}

static json_t *traced(const struct bench_traced *t)
{
	json_t *o;

	if (!t->faults)
		return json_null();
	o = json_object();
	json_object_set_new(o, "faults", json_integer((json_int_t)t->faults));
	json_object_set_new(o, "until_page", json_integer((json_int_t)t->until_page));
	json_object_set_new(o, "after_page", json_integer((json_int_t)t->after_page));
	return o;
}

/* "shares": per cause, what makes the median of a fault. */
static void add_shares(json_t *doc, const struct bench_fault_result *r, const char *run_backing)
{
	json_t *all = json_object(), *one;
	struct bench_shares s;

	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++) {
		const struct bench_row *row = &r->row[cause][BENCH_APART];

		if (!row->ran)
			continue;
		bench_shares(r, cause, &s);
		one = json_object();
		json_object_set_new(one, "backing", json_string(bench_cause_backing(cause) ?: run_backing));
		json_object_set_new(one, "overhead", json_integer((json_int_t)s.overhead));
		json_object_set_new(one, "host", s.host_known ? json_integer((json_int_t)s.host) : json_null());
		json_object_set_new(one, "mmu", s.host_known ? json_integer((json_int_t)s.mmu) : json_null());
		json_object_set_new(one, "samples", json_integer((json_int_t)row->accesses));
		json_object_set_new(one, "faults",
				    bench_row_counted(r, cause) ? json_integer((json_int_t)row->faults) : json_null());
		json_object_set_new(one, "host_faults", json_integer((json_int_t)r->host[cause].faults));
		json_object_set_new(one, "traced", traced(&r->traced[cause]));
		json_object_set_new(all, bench_cause_table[cause].name, one);
	}
	if (json_object_size(all))
		json_object_set_new(doc, "shares", all);
	else
		json_decref(all);
}

void bench_fault_document(json_t *doc, struct bench_fault_result *r, const char *run_backing)
{
	u64 resolution = cycles_to_unit(cycles_step()) + 1; /* rounded up */
	char name[64];

	for (int cause = 0; cause < BENCH_CAUSE_NR; cause++) {
		for (int order = 0; order < BENCH_ORDER_NR; order++) {
			bench_row_name(name, sizeof(name), cause, order);
			add_row(doc, name, &r->row[cause][order], resolution);
		}
		snprintf(name, sizeof(name), "host_%s", bench_cause_table[cause].name);
		add_row(doc, name, &r->host[cause], resolution);
		if (r->skip[cause][0])
			result_skip(doc, bench_cause_table[cause].name, r->skip[cause]);
	}
	if (r->no_trace[0])
		result_skip(doc, "events", r->no_trace);
	add_shares(doc, r, run_backing);
}
