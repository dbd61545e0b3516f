/* SPDX-License-Identifier: MIT */
/* Results as JSON: see lab/result/result.h. */
#include "lab/result/result.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "lib/time.h"

#ifndef TAIN_VERSION
#define TAIN_VERSION "unknown"
#endif

static const struct utsname *names(void)
{
	static struct utsname name; /* written alike by whoever comes first */

	return uname(&name) ? NULL : &name;
}

const char *result_kernel(void)
{
	return names() ? names()->release : "unknown";
}

/* JSON integers are signed 64 bit here. */
static json_t *integer(u64 value)
{
	return json_integer((json_int_t)min(value, (u64)INT64_MAX));
}

/* Text that is no UTF-8 (a path) has no place in JSON. */
static json_t *text_or_null(const char *text)
{
	json_t *string = text && *text ? json_string(text) : NULL;

	return string ?: json_null();
}

static json_t *word(u64 value)
{
	char text[24];

	snprintf(text, sizeof(text), "%#llx", (unsigned long long)value);
	return json_string(text);
}

json_t *result_new(const char *command, const struct machine_identity *id, u64 seed)
{
	json_t *doc = json_object();

	json_object_set_new(doc, "schema", json_string(RESULT_SCHEMA));
	json_object_set_new(doc, "version", json_string(TAIN_VERSION));
	json_object_set_new(doc, "command", json_string(command));
	json_object_set_new(doc, "engine", text_or_null(id ? id->engine : NULL));
	json_object_set_new(doc, "host_mm", text_or_null(id ? id->host_mm : NULL));
	json_object_set_new(doc, "mmu", text_or_null(id ? id->mmu : NULL));
	json_object_set_new(doc, "cpu", text_or_null(id ? id->cpu : NULL));
	json_object_set_new(doc, "kernel", json_string(result_kernel()));
	json_object_set_new(doc, "host", text_or_null(names() ? names()->nodename : NULL));
	json_object_set_new(doc, "seed", integer(seed));
	json_object_set_new(doc, "status", json_null());
	json_object_set_new(doc, "elapsed_s", json_real(0));
	json_object_set_new(doc, "checked_accesses", json_integer(0));
	json_object_set_new(doc, "faults", json_integer(0));
	json_object_set_new(doc, "options", json_object());
	json_object_set_new(doc, "host_ops", json_object());
	json_object_set_new(doc, "violations", json_array());
	json_object_set_new(doc, "skips", json_array());
	json_object_set_new(doc, "histograms", json_object());
	return doc;
}

void result_status(json_t *doc, int status)
{
	if (json_object_get(doc, "status"))
		json_object_set_new(doc, "status", json_integer(status));
}

void result_counts(json_t *doc, u64 elapsed_ns, u64 checked_accesses, u64 faults)
{
	json_object_set_new(doc, "elapsed_s", json_real((double)(elapsed_ns / NSEC_PER_USEC) / 1e6));
	json_object_set_new(doc, "checked_accesses", integer(checked_accesses));
	json_object_set_new(doc, "faults", integer(faults));
}

void result_faults_unknown(json_t *doc)
{
	json_object_set_new(doc, "faults", json_null());
}

void result_host_op(json_t *doc, const char *name, u64 count)
{
	json_object_set_new(json_object_get(doc, "host_ops"), name, integer(count));
}

void result_skip(json_t *doc, const char *what, const char *why)
{
	json_t *skip = json_object();

	json_object_set_new(skip, "what", json_string(what));
	json_object_set_new(skip, "why", json_string(why));
	json_array_append_new(json_object_get(doc, "skips"), skip);
}

static json_t *trace_lines(const char *trace)
{
	json_t *lines = json_array();

	while (trace && *trace) {
		size_t len = strcspn(trace, "\n");

		json_array_append_new(lines, json_stringn(trace, len));
		trace += len + (trace[len] != 0);
	}
	return lines;
}

void result_violation(json_t *doc, const struct violation *v)
{
	json_t *o = json_object();
	bool stepped = v->step != VIOLATION_NO_STEP;

	json_object_set_new(o, "kind", json_string(violation_name(v->kind)));
	json_object_set_new(o, "what", json_string(violation_summary(v->kind)));
	json_object_set_new(o, "page", v->page != VIOLATION_NO_PAGE ? integer(v->page) : json_null());
	json_object_set_new(o, "vcpu", v->vcpu != VIOLATION_NO_VCPU ? integer(v->vcpu) : json_null());
	json_object_set_new(o, "seen", word(v->seen));
	json_object_set_new(o, "expected", word(v->expected));
	json_object_set_new(o, "generation_seen", integer(guest_stamp_generation(v->seen)));
	json_object_set_new(o, "generation_required", integer(v->required >> 1));
	json_object_set_new(o, "zero_allowed", json_boolean(v->required & 1));
	json_object_set_new(o, "generation_announced", integer(v->announced));
	json_object_set_new(o, "operation", stepped ? json_string(plan_op_name(v->op)) : json_null());
	json_object_set_new(o, "step", stepped ? integer(v->step) : json_null());
	json_object_set_new(o, "seed", integer(v->seed));
	json_object_set_new(o, "text", text_or_null(v->text));
	json_object_set_new(o, "trace", trace_lines(v->trace));
	json_array_append_new(json_object_get(doc, "violations"), o);
}

void result_histogram(json_t *doc, const char *name, const char *unit, const struct hist *hist)
{
	static const struct {
		const char *key;
		double p;
	} percentiles[] = { { "p50", 50 }, { "p90", 90 }, { "p99", 99 }, { "p999", 99.9 }, { "p9999", 99.99 } };
	json_t *o = json_object(), *buckets = json_object();
	u64 lo, hi, count;
	size_t pos = 0;
	char key[24];

	json_object_set_new(o, "unit", json_string(unit));
	json_object_set_new(o, "count", integer(hist_count(hist)));
	json_object_set_new(o, "min", integer(hist_min(hist)));
	for (size_t i = 0; i < ARRAY_SIZE(percentiles); i++)
		json_object_set_new(o, percentiles[i].key,
				    hist_tells(hist, percentiles[i].p)
					    ? integer(hist_percentile(hist, percentiles[i].p))
					    : json_null());
	json_object_set_new(o, "max", integer(hist_max(hist)));
	while (hist_next_bucket(hist, &pos, &lo, &hi, &count)) {
		snprintf(key, sizeof(key), "%llu", (unsigned long long)lo);
		json_object_set_new(buckets, key, integer(count));
	}
	json_object_set_new(o, "buckets", buckets);
	json_object_set_new(json_object_get(doc, "histograms"), name, o);
}

void result_figure(json_t *doc, const struct figure *f)
{
	json_t *o = json_object(), *values = json_array(), *others = json_array();
	json_t *figures = json_object_get(doc, "figures");

	if (!figures) {
		figures = json_array();
		json_object_set_new(doc, "figures", figures);
	}
	for (u32 i = 0; i < f->rounds; i++) {
		json_array_append_new(values, json_real(f->value[i]));
		json_array_append_new(others, json_real(f->other[i]));
	}
	json_object_set_new(o, "name", json_string(f->name));
	json_object_set_new(o, "unit", json_string(f->unit));
	json_object_set_new(o, "values", values);
	json_object_set_new(o, "peer", f->peer ? json_string(f->peer) : json_null());
	json_object_set_new(o, "peer_values", others);
	json_object_set_new(o, "measure", json_real(figure_measure(f)));
	json_object_set_new(o, "bound", f->bound ? json_real(f->bound) : json_null());
	json_object_set_new(o, "at_most", json_boolean(f->at_most));
	json_object_set_new(o, "note", text_or_null(f->note[0] ? f->note : NULL));
	json_object_set_new(o, "met", f->skip[0] || !f->rounds ? json_null() : json_boolean(figure_met(f)));
	json_array_append_new(figures, o);
	if (f->skip[0])
		result_skip(doc, f->name, f->skip);
}

void result_blocks(json_t *doc, const char *name, struct blocks *blocks, u64 resolution)
{
	json_t *list = json_array(), *o = json_object_get(json_object_get(doc, "histograms"), name);
	struct block shown[BLOCKS_SHOWN];
	u32 nr = blocks_show(blocks, shown);

	for (u32 i = 0; i < nr; i++) {
		json_t *block = json_object();

		json_object_set_new(block, "count", integer(shown[i].count));
		json_object_set_new(block, "p50", integer(shown[i].p50));
		json_object_set_new(block, "p99", shown[i].p99 == BLOCK_UNTOLD ? json_null() : integer(shown[i].p99));
		json_array_append_new(list, block);
	}
	json_object_set_new(o, "resolution", integer(resolution));
	json_object_set_new(o, "blocks", list);
}

void result_option_u64(json_t *doc, const char *name, u64 value)
{
	json_object_set_new(json_object_get(doc, "options"), name, integer(value));
}

void result_option_text(json_t *doc, const char *name, const char *value)
{
	json_object_set_new(json_object_get(doc, "options"), name, text_or_null(value));
}
