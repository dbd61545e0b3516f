/* SPDX-License-Identifier: MIT */
/* tain trace: the document. */
#include <stdio.h>
#include <string.h>

#include "cmd/trace.h"
#include "lab/result/result.h"

static json_t *number(u64 n)
{
	return json_integer((json_int_t)n);
}

static json_t *address(u64 a)
{
	char text[24];

	snprintf(text, sizeof(text), "%#llx", (unsigned long long)a);
	return json_string(text);
}

/* A path need not be UTF-8. */
static json_t *name_of(const char *text)
{
	return json_string(text) ?: json_string("?");
}

static json_t *events(const struct fault_trace *t)
{
	json_t *list = json_array(), *o;
	char name[64];

	for (int i = 0; i < KVM_EVENT_NR; i++) {
		const struct tracer_event *e = &t->event[i];

		snprintf(name, sizeof(name), "%s:%s", kvm_event_table[i].system, kvm_event_table[i].name);
		o = json_pack("{s:s,s:b,s:b}", "name", name, "available", e->available, "enabled", e->enabled);
		json_object_set_new(o, "fired", number(e->fired));
		json_object_set_new(o, "why", e->why[0] ? json_string(e->why) : json_null());
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *causes(const struct fault_trace *t)
{
	json_t *list = json_array(), *o;

	for (int c = 0; c < FAULT_CAUSE_NR; c++)
		for (int h = 0; h < FAULT_HOST_NR; h++) {
			if (!t->crossed[c][h])
				continue;
			o = json_pack("{s:s,s:s}", "cause", fault_cause_table[c].name, "host",
				      fault_host_table[h].name);
			json_object_set_new(o, "faults", number(t->crossed[c][h]));
			json_array_append_new(list, o);
		}
	return list;
}

static json_t *percentile(const struct hist *h, double p)
{
	return hist_tells(h, p) ? number(hist_percentile(h, p)) : json_null();
}

static json_t *mappings(const struct fault_trace *t)
{
	json_t *list = json_array(), *o, *by;

	for (u32 i = 0; i < t->nr_areas; i++) {
		const struct trace_area *a = &t->area[i];

		o = json_object();
		json_object_set_new(o, "backing", json_string(a->area.backing));
		json_object_set_new(o, "name", name_of(a->area.name));
		json_object_set_new(o, "start", address(a->area.start));
		json_object_set_new(o, "end", address(a->area.end));
		json_object_set_new(o, "gpa_first", address(a->gpa_first));
		json_object_set_new(o, "gpa_last", address(a->gpa_last));
		json_object_set_new(o, "faults", number(a->faults));
		json_object_set_new(o, "prefetched", number(a->prefetched));
		json_object_set_new(o, "huge", number(a->huge));
		json_object_set_new(o, "p50", percentile(&a->ns, 50));
		json_object_set_new(o, "p99", percentile(&a->ns, 99));
		by = json_object();
		for (int c = 0; c < FAULT_CAUSE_NR; c++)
			json_object_set_new(by, fault_cause_table[c].name, number(a->cause[c]));
		json_object_set_new(o, "causes", by);
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *memslots(const struct fault_trace *t)
{
	json_t *list = json_array(), *o;

	for (u32 i = 0; i < t->slots.nr; i++) {
		const struct vmm_slot *s = &t->slots.slot[i];

		if (!vmm_slot_sure(s))
			continue;
		o = json_object();
		json_object_set_new(o, "gpa", address(s->first << PAGE_SHIFT));
		json_object_set_new(o, "hva", address((s->first + (u64)s->delta) << PAGE_SHIFT));
		json_object_set_new(o, "bytes", number((s->last - s->first + 1) << PAGE_SHIFT));
		json_object_set_new(o, "matched", number(s->matched));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *memslot_search(const struct fault_trace *t)
{
	json_t *o = json_object();

	json_object_set_new(o, "candidates", number(t->slots.nr));
	json_object_set_new(o, "sure", number(vmm_slots_sure(&t->slots)));
	json_object_set_new(o, "looked", number(t->slots.looked));
	json_object_set_new(o, "found", number(t->slots.found));
	return o;
}

static json_t *threads(const struct fault_trace *t)
{
	json_t *list = json_array(), *o;

	for (u32 i = 0; i < t->nr_threads; i++) {
		o = json_object();
		json_object_set_new(o, "tid", number(t->thread[i].tid));
		json_object_set_new(o, "name", name_of(t->thread[i].name));
		json_object_set_new(o, "faults", number(t->thread[i].faults));
		json_object_set_new(o, "caused", number(t->thread[i].caused));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *sums(const struct fault_trace *t)
{
	const struct fault_stream_counts *c = &t->stream.counts;
	const struct {
		const char *name;
		u64 value;
	} numbers[] = {
		{ "attempts", c->attempts },
		{ "late", c->late },
		{ "retries", c->retries },
		{ "slept", t->waited },
		{ "slept_ns", t->waited_ns },
		{ "prefetched", c->prefetched },
		{ "unfinished", c->unfinished },
		{ "mmio", c->mmio },
		{ "failed", c->failed },
		{ "broken", c->broken },
		{ "invalidations", c->invalidations },
		{ "events", t->events },
		{ "lost", t->lost },
		{ "own_cpu_ns", t->cpu_ns },
	};
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		json_object_set_new(o, numbers[i].name, number(numbers[i].value));
	return o;
}

json_t *trace_document(const struct fault_trace *t)
{
	struct machine_identity id = { 0 };
	json_t *doc, *trace;

	snprintf(id.mmu, sizeof(id.mmu), "%s", t->mmu);
	snprintf(id.host_mm, sizeof(id.host_mm), "Linux %s", result_kernel());
	snprintf(id.cpu, sizeof(id.cpu), "%s", t->cpu);
	doc = result_new("trace", &id, 0);
	result_counts(doc, t->elapsed_ns, 0, t->stream.counts.faults);
	for (int i = 0; i < KVM_EVENT_NR; i++)
		if (!t->event[i].enabled)
			result_skip(doc, kvm_event_table[i].name, t->event[i].why);
	if (t->process.pagemap < 0)
		result_skip(doc, "memslots", strerror(-t->process.pagemap_error));
	if (hist_count(&t->ns)) {
		result_histogram(doc, "fault", "ns", &t->ns);
		result_histogram(doc, "until_page", "ns", &t->page_ns);
	}
	for (int c = 0; c < FAULT_CAUSE_NR; c++)
		if (hist_count(&t->by_cause[c]))
			result_histogram(doc, fault_cause_table[c].name, "ns", &t->by_cause[c]);
	trace = sums(t);
	json_object_set_new(trace, "process", name_of(t->process.comm));
	json_object_set_new(trace, "vms", number(t->process.vms));
	json_object_set_new(trace, "vcpus", number(t->process.vcpus));
	json_object_set_new(trace, "ended", json_boolean(t->ended));
	json_object_set_new(trace, "span", json_string(trace_span(t)));
	json_object_set_new(trace, "event_list", events(t));
	json_object_set_new(trace, "causes", causes(t));
	json_object_set_new(trace, "mappings", mappings(t));
	json_object_set_new(trace, "memslots", memslots(t));
	json_object_set_new(trace, "memslot_search", memslot_search(t));
	json_object_set_new(trace, "threads", threads(t));
	json_object_set_new(doc, "trace", trace);
	return doc;
}
