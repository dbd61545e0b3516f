/* SPDX-License-Identifier: MIT */
/* tain trace: tables for people, and each fault as a line. */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/trace.h"
#include "lib/time.h"

const char *trace_span(const struct fault_trace *t)
{
	if (!t->stream.config.tdp)
		return "kvm_mmu_pagetable_walk to kvm_mmu_set_spte";
	return t->entered ? "kvm_page_fault to kvm_entry" : "kvm_page_fault to kvm_mmu_set_spte";
}

static const char *page_size(u32 level)
{
	static const char *const names[] = { "4K", "2M", "1G" };

	return names[level - 1];
}

void trace_print_fault_head(FILE *out)
{
	fputs("# start_ns\ttid\tgpa\thva\tsize\taccess\tcause\thost\tns\tpage_ns\twaited_ns\tpreempted_ns\tretries\t"
	      "prefetched\tby\tmemslot\tbacking\tmapping\n",
	      out);
}

void trace_print_fault(FILE *out, const struct fault *f, const struct vmm_area *area, const struct fault_trace *t)
{
	fprintf(out, "%llu\t%u\t%#llx\t", (unsigned long long)(f->start_ns - min(f->start_ns, t->start_ns)), f->tid,
		(unsigned long long)fault_gpa(f));
	fprintf(out, f->hva ? "%#llx" : "-", (unsigned long long)f->hva);
	fprintf(out, "\t%s\t%s\t%s\t%s\t%llu\t%llu\t%llu\t%llu\t%u\t%u\t", page_size(f->level),
		fault_access_names[f->access], fault_cause_table[f->cause].name, fault_host_table[f->host].name,
		(unsigned long long)f->ns, (unsigned long long)f->page_ns, (unsigned long long)f->waited_ns,
		(unsigned long long)f->preempted_ns, f->retries, f->prefetched);
	fprintf(out, f->by ? "%u" : "-", f->by);
	/* A memslot is where hva - gpa is the same. */
	fprintf(out, f->hva ? "\t%#llx" : "\t-", (unsigned long long)(f->hva - fault_gpa(f)));
	fprintf(out, "\t%s\t%s\n", area ? area->backing : "-", area ? area->name[0] ? area->name : "anonymous" : "-");
}

/* --- tables ---------------------------------------------------------------------------- */

static void print_times(const struct hist *h)
{
	fprintf(cmd_out, " %9s %9s %9s %11s", cmd_percentile(h, 50), cmd_percentile(h, 99), cmd_percentile(h, 99.9),
		cmd_count(hist_max(h)));
}

static void print_causes(const struct fault_trace *t)
{
	u32 told = 0;

	fprintf(cmd_out, "\nns from %s\n", trace_span(t));
	fprintf(cmd_out, "  %-12s %10s %9s %9s %9s %11s  %s\n", "cause", "faults", "p50", "p99", "p99.9", "max",
		"the host did");
	for (int c = 0; c < FAULT_CAUSE_NR; c++) {
		u64 faults = 0;

		for (int h = 0; h < FAULT_HOST_NR; h++)
			faults += t->crossed[c][h];
		if (!faults)
			continue;
		told |= 1u << c;
		fprintf(cmd_out, "  %-12s %10s", fault_cause_table[c].name, cmd_count(faults));
		print_times(&t->by_cause[c]);
		fputc(' ', cmd_out);
		for (int h = 0; h < FAULT_HOST_NR; h++)
			if (t->crossed[c][h])
				fprintf(cmd_out, " %s %s", fault_host_table[h].name, cmd_count(t->crossed[c][h]));
		fputc('\n', cmd_out);
	}
	fprintf(cmd_out, "  %-12s %10s", "all", cmd_count(hist_count(&t->ns)));
	print_times(&t->ns);
	fprintf(cmd_out, "\n  %-12s %10s", "until page", cmd_count(hist_count(&t->page_ns)));
	print_times(&t->page_ns);
	fputs("\n\n  until page   of it, until the host's page was known: what the host did, and KVM's way there\n",
	      cmd_out);
	for (int c = 0; c < FAULT_CAUSE_NR; c++)
		if (told & 1u << c)
			fprintf(cmd_out, "  %-12s %s\n", fault_cause_table[c].name, fault_cause_table[c].text);
}

static void print_areas(const struct fault_trace *t)
{
	fprintf(cmd_out, "\n  %10s %9s %9s %10s %8s  %-18s %s\n", "faults", "p50", "p99", "prefetched", "huge",
		"backing", "mapping");
	for (u32 i = 0; i < t->nr_areas; i++) {
		const struct trace_area *a = &t->area[i];

		fprintf(cmd_out, "  %10s %9s %9s %10s %8s  %-18s ", cmd_count(a->faults), cmd_percentile(&a->ns, 50),
			cmd_percentile(&a->ns, 99), cmd_count(a->prefetched), cmd_count(a->huge), a->area.backing);
		if (a->area.end)
			fprintf(cmd_out, "%llx-%llx ", (unsigned long long)a->area.start,
				(unsigned long long)a->area.end);
		fprintf(cmd_out, "gpa %#llx..%#llx %s\n", (unsigned long long)a->gpa_first,
			(unsigned long long)a->gpa_last, a->area.name);
	}
}

static void print_slots(const struct fault_trace *t)
{
	bool any = false;

	for (u32 i = 0; i < t->slots.nr; i++) {
		const struct vmm_slot *s = &t->slots.slot[i];

		if (!vmm_slot_sure(s))
			continue;
		if (!any)
			fprintf(cmd_out, "\nmemslots, found by their frames (Linux does not tell them)\n");
		any = true;
		fprintf(cmd_out, "  gpa %#llx..%#llx at hva %#llx, %s pages matched\n",
			(unsigned long long)s->first << PAGE_SHIFT, (unsigned long long)s->last << PAGE_SHIFT,
			(unsigned long long)(s->first + (u64)s->delta) << PAGE_SHIFT, cmd_count(s->matched));
	}
	if (t->process.pagemap < 0)
		fprintf(cmd_out, "\nno memslot, hva or mapping is known: /proc/%d/pagemap: %s\n", t->process.pid,
			strerror(-t->process.pagemap_error));
	else if (!any && t->slots.nr)
		fprintf(cmd_out,
			"\nno memslot was found: %u candidate%s, none sure (%s of %s frames of events were in the "
			"process's pagemap, too few at one distance from their gpa)\n",
			t->slots.nr, t->slots.nr == 1 ? "" : "s", cmd_count(t->slots.found),
			cmd_count(t->slots.looked));
	else if (!any)
		fprintf(cmd_out, "\nno memslot was found: none of %s frames of events was in the process's pagemap%s\n",
			cmd_count(t->slots.looked),
			t->stream.config.zero_pfn ? "" : ", which shows frames to CAP_SYS_ADMIN alone");
}

static void print_several(const struct fault_trace *t)
{
	if (t->stream.several)
		fprintf(cmd_out,
			"\n%u VMs, and no event tells them apart: causes are told of first touches and of missing "
			"rights "
			"alone,\nand an hva or a mapping may be that of another VM's page\n",
			t->process.vms);
}

static void print_threads(const struct fault_trace *t)
{
	fprintf(cmd_out, "\n  %-8s %-18s %10s %22s\n", "thread", "name", "faults", "caused by invalidation");
	for (u32 i = 0; i < t->nr_threads; i++)
		fprintf(cmd_out, "  %-8u %-18s %10s %22s\n", t->thread[i].tid, t->thread[i].name,
			cmd_count(t->thread[i].faults), cmd_count(t->thread[i].caused));
}

static void print_events(const struct fault_trace *t)
{
	fprintf(cmd_out, "\n  %-36s %12s\n", "event", "fired");
	for (int i = 0; i < KVM_EVENT_NR; i++) {
		const struct tracer_event *e = &t->event[i];
		char name[64];

		snprintf(name, sizeof(name), "%s:%s", kvm_event_table[i].system, kvm_event_table[i].name);
		fprintf(cmd_out, "  %-36s %12s%s%s\n", name, cmd_count(e->fired), e->enabled ? "" : "  ", e->why);
	}
}

static void print_sums(const struct fault_trace *t)
{
	const struct fault_stream_counts *c = &t->stream.counts;
	double seconds = (double)t->elapsed_ns / (double)NSEC_PER_SEC;

	fprintf(cmd_out, "\n  %-28s %12s   %s/s\n", "second-MMU faults", cmd_count(c->faults),
		cmd_rate(seconds > 0 ? (double)c->faults / seconds : 0));
	fprintf(cmd_out, "  %-28s %12s   an invalidation came between\n", "  retries", cmd_count(c->retries));
	if (c->late)
		fprintf(cmd_out, "  %-28s %12s   no event tells when they began: the guest does not page\n",
			"  without a time", cmd_count(c->late));
	fprintf(cmd_out, "  %-28s %12s   %s in all\n", "  slept within", cmd_count(t->waited),
		cmd_seconds(t->waited_ns));
	fprintf(cmd_out, "  %-28s %12s   entries that came with a fault\n", "  prefetched", cmd_count(c->prefetched));
	fprintf(cmd_out, "  %-28s %12s   emulated accesses, the guest's own faults\n", "opened, set no entry",
		cmd_count(c->unfinished));
	fprintf(cmd_out, "  %-28s %12s\n", "MMIO", cmd_count(c->mmio));
	fprintf(cmd_out, "  %-28s %12s   the host did not allow them\n", "failed accesses", cmd_count(c->failed));
	fprintf(cmd_out, "  %-28s %12s   notifier ranges\n", "invalidations", cmd_count(c->invalidations));
	fprintf(cmd_out, "  %-28s %12s   in %s; tain's own processor time %s\n", "events", cmd_count(t->events),
		cmd_seconds(t->elapsed_ns), cmd_seconds(t->cpu_ns));
	if (t->lost)
		fprintf(cmd_out,
			"  %-28s %12s   faults are missing, and causes after a gap may be wrong: say --buffer SIZE\n",
			"events lost", cmd_count(t->lost));
	if (t->ended)
		fprintf(cmd_out, "process %d has ended\n", t->process.pid);
}

void trace_print(const struct fault_trace *t, bool quiet)
{
	print_sums(t);
	if (t->stream.counts.faults) {
		print_causes(t);
		print_areas(t);
		print_slots(t);
		print_several(t);
		print_threads(t);
		if (!quiet)
			cmd_print_histogram(cmd_out, "fault", &t->ns, 12);
	}
	if (!quiet)
		print_events(t);
	fflush(cmd_out);
}
