/* SPDX-License-Identifier: MIT */
/* Trace the faults of a running VMM: the loop, and the sums. */
#include "lab/trace/fault_trace.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lab/system/pagemap.h"
#include "lib/alloc.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "vmm/engine.h"

#define YOUNG_S 10
#define READ_NS (20 * NSEC_PER_MSEC)   /* between two readings: buffers are to be drained before they are full */
#define AREAS_NS (250 * NSEC_PER_MSEC) /* mappings are read anew no more often */
#define LEARN_MAX 512		       /* pages looked up in pagemap at a time */
#define LEARN_NS (100 * NSEC_PER_MSEC)

struct session {
	struct fault_trace *t;
	const struct fault_trace_config *config;
	struct tracer *tracer;
	struct vmm_page *learn;
	u64 areas_ns; /* when the mappings were read */
	u64 vms_ns;   /* and the VMs counted */
	u64 lost;
	u64 zero_pfn;
};

/* --- sums ------------------------------------------------------------------------------------- */

static struct trace_thread *thread_of(struct fault_trace *t, u32 tid)
{
	for (u32 i = 0; i < t->nr_threads; i++)
		if (t->thread[i].tid == tid)
			return &t->thread[i];
	if (t->nr_threads == TRACE_THREADS)
		return NULL;
	t->thread[t->nr_threads] = (struct trace_thread){ .tid = tid };
	vmm_thread_name(tid, t->thread[t->nr_threads].name, sizeof(t->thread[0].name));
	return &t->thread[t->nr_threads++];
}

static bool same_object(const struct vmm_area *a, const struct vmm_area *b)
{
	return a->shared == b->shared && a->dev == b->dev && a->ino == b->ino && !strcmp(a->name, b->name) &&
	       (a->ino || (a->start <= b->end && b->start <= a->end));
}

static struct trace_area *row_new(struct fault_trace *t, const struct vmm_area *area)
{
	static const struct vmm_area rest = { .backing = "the rest" };
	struct trace_area *row;

	if (t->nr_areas == TRACE_AREAS)
		return &t->area[TRACE_AREAS - 1];
	row = &t->area[t->nr_areas];
	*row = (struct trace_area){ .area = t->nr_areas == TRACE_AREAS - 1 ? rest : *area, .gpa_first = ~0ull };
	if (hist_init(&row->ns))
		return NULL;
	t->nr_areas++;
	return row;
}

/*
 * The row of a page at @hva, in @area as far as that is mapped now. A mapping that grew,
 * shrank, or is being made anew in its place keeps its row.
 */
static struct trace_area *row_of(struct fault_trace *t, hva_t hva, const struct vmm_area *area)
{
	static const struct vmm_area unknown = { .backing = "unknown", .name = "no place was found for them" };

	for (u32 i = 0; hva && i < t->nr_areas; i++)
		if (hva >= t->area[i].area.start && hva < t->area[i].area.end &&
		    (!area || same_object(&t->area[i].area, area)))
			return &t->area[i];
	area = area ?: &unknown;
	for (u32 i = 0; i < t->nr_areas; i++) {
		struct vmm_area *known = &t->area[i].area;

		if (known->backing != area->backing || !same_object(known, area))
			continue;
		known->start = min(known->start, area->start);
		known->end = max(known->end, area->end);
		return &t->area[i];
	}
	return row_new(t, area);
}

static void merge_row(struct trace_area *to, const struct trace_area *from)
{
	to->area.start = min(to->area.start, from->area.start);
	to->area.end = max(to->area.end, from->area.end);
	for (int c = 0; c < FAULT_CAUSE_NR; c++)
		to->cause[c] += from->cause[c];
	to->faults += from->faults;
	to->prefetched += from->prefetched;
	to->huge += from->huge;
	to->gpa_first = min(to->gpa_first, from->gpa_first);
	to->gpa_last = max(to->gpa_last, from->gpa_last);
	hist_merge(&to->ns, &from->ns);
}

/* Parts of a mapping that was seen with a hole, and later without. */
static void merge_rows(struct fault_trace *t)
{
	for (u32 i = 0; i < t->nr_areas; i++)
		for (u32 j = i + 1; j < t->nr_areas;) {
			struct trace_area *last = &t->area[t->nr_areas - 1], *row = &t->area[j];

			if (row->area.backing != t->area[i].area.backing ||
			    !same_object(&t->area[i].area, &row->area)) {
				j++;
				continue;
			}
			merge_row(&t->area[i], row);
			hist_destroy(&row->ns);
			*row = *last;
			t->nr_areas--;
		}
}

static void add_thread(struct fault_trace *t, const struct fault *f)
{
	struct trace_thread *thread = thread_of(t, f->tid);

	if (thread)
		thread->faults++;
	thread = f->cause == FAULT_INVALIDATED ? thread_of(t, f->by) : NULL;
	if (thread)
		thread->caused++;
}

static void on_fault(const struct fault *f, void *arg)
{
	struct session *s = arg;
	struct fault_trace *t = s->t;
	const struct vmm_area *area = f->hva ? vmm_process_area(&t->process, f->hva) : NULL;
	struct trace_area *row = row_of(t, f->hva, area);

	if (!f->late) {
		hist_add(&t->ns, f->ns);
		hist_add(&t->by_cause[f->cause], f->ns);
	}
	if (!f->late && !f->fast)
		hist_add(&t->page_ns, f->page_ns);
	t->crossed[f->cause][f->host]++;
	t->access[f->access]++;
	t->waited += f->waited_ns != 0;
	t->waited_ns += f->waited_ns;
	t->entered += f->entered;
	add_thread(t, f);
	if (row) {
		row->faults++;
		row->cause[f->cause]++;
		row->prefetched += f->prefetched;
		row->huge += f->level > 1;
		row->gpa_first = min(row->gpa_first, fault_gpa(f));
		row->gpa_last = max(row->gpa_last, fault_gpa(f));
		if (!f->late)
			hist_add(&row->ns, f->ns);
	}
	if (s->config->fault)
		s->config->fault(f, area, s->config->arg);
}

/* --- the loop ---------------------------------------------------------------------------------- */

static hva_t hva_of(u64 gfn, void *arg)
{
	struct session *s = arg;

	return vmm_slots_hva(&s->t->slots, gfn);
}

static void learn_these(struct session *s, u32 n)
{
	struct fault_trace *t = s->t;
	struct fault_page *p;

	if (clock_ns() - s->areas_ns > AREAS_NS) {
		vmm_process_areas(&t->process);
		s->areas_ns = clock_ns();
	}
	vmm_slots_learn(&t->slots, &t->process, s->learn, n);
	/* One whose frame was taken away before it was looked for is looked for again when it faults again. */
	for (u32 i = 0; i < n; i++) {
		p = s->learn[i].found ? NULL : fault_page_find(&t->stream.pages, 0, s->learn[i].gfn);
		if (p)
			p->checked = false;
	}
}

/* Pages that faulted for the first time: they tell where the memslots are. For a while: events go on coming. */
static void learn(struct session *s, const struct kvm_event_record *record, u64 nr)
{
	u64 until = clock_ns() + LEARN_NS;
	struct fault_page *p;
	u64 pages;
	u32 n = 0;

	for (u64 i = 0; i < nr; i++) {
		const struct kvm_event_record *r = &record[i];

		if (r->event != KVM_EVENT_REQUESTED || r->value[1] == s->zero_pfn ||
		    fault_stream_space(&s->t->stream, r->tid))
			continue;
		pages = LEVEL_PAGES(fault_level(r->value[2]));
		p = fault_page_get(&s->t->stream.pages, 0, r->value[0], fault_level(r->value[2]));
		if (!p || p->checked)
			continue;
		p->checked = true;
		s->learn[n++] = (struct vmm_page){ align_down(r->value[0], pages), align_down(r->value[1], pages),
						   pages, false };
		if (n < LEARN_MAX)
			continue;
		learn_these(s, n);
		n = 0;
		if (clock_ns() > until)
			return;
	}
	if (n)
		learn_these(s, n);
}

/* New threads first: what is looked up in the process's memory is to be its own. */
static int feed(struct session *s, const struct kvm_event_record *record, u64 nr, bool new_tasks, struct err *err)
{
	for (u64 i = 0; i < nr; i++)
		if ((record[i].event == KVM_EVENT_NEW_TASK) == new_tasks &&
		    fault_stream_feed(&s->t->stream, &record[i]))
			return err_set(err, -ENOMEM, "no memory for the faults of %llu pages",
				       (unsigned long long)s->t->stream.pages.nr);
	return 0;
}

/* A VM may be made at any time. */
static void count_vms(struct session *s)
{
	if (clock_ns() - s->vms_ns <= AREAS_NS)
		return;
	vmm_process_vms(&s->t->process);
	s->t->stream.several = s->t->process.vms > 1;
	s->vms_ns = clock_ns();
}

static int read_once(struct session *s, struct err *err)
{
	struct kvm_event_record *record;
	u64 nr, lost;
	int ret = tracer_read(s->tracer, &record, &nr, err);

	if (ret)
		return ret;
	lost = tracer_lost(s->tracer);
	if (lost != s->lost)
		fault_stream_gap(&s->t->stream);
	s->lost = lost;
	s->t->events += nr;
	count_vms(s);
	ret = feed(s, record, nr, true, err);
	if (ret)
		return ret;
	learn(s, record, nr);
	return feed(s, record, nr, false, err);
}

static bool asked_to_stop(const struct session *s)
{
	return s->config->stop && READ_ONCE(*s->config->stop);
}

static int loop(struct session *s, struct err *err)
{
	struct pollfd end = { .fd = s->t->process.pidfd, .events = POLLIN };
	u64 until = s->config->time_ns ? s->t->start_ns + s->config->time_ns : ~0ull, now;
	struct timespec ts;
	int ret = 0;

	while (!ret && !asked_to_stop(s) && !s->t->ended && (now = clock_ns()) < until) {
		u64 wait = min(until - now, (u64)READ_NS);

		ts = (struct timespec){ .tv_nsec = (long)wait };
		s->t->ended = ppoll(&end, 1, &ts, NULL) > 0;
		ret = read_once(s, err);
		if (s->config->progress)
			s->config->progress(s->t->stream.counts.faults, s->t->events, s->config->arg);
	}
	tracer_stop(s->tracer);
	s->t->elapsed_ns = clock_ns() - s->t->start_ns;
	ret = ret ?: read_once(s, err);
	fault_stream_finish(&s->t->stream);
	merge_rows(s->t);
	return ret;
}

static u64 own_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

static int prepare(struct session *s, struct err *err)
{
	struct fault_trace *t = s->t;
	struct vm_identity id = { 0 };
	struct fault_stream_config config = { .hva = hva_of, .fault = on_fault, .arg = s };
	int ret;

	engine_find("kvm")->identify(NULL, &id);
	snprintf(t->mmu, sizeof(t->mmu), "%s", id.mmu);
	snprintf(t->cpu, sizeof(t->cpu), "%s", id.cpu);
	config.ept = !strcmp(t->mmu, "KVM EPT");
	config.tdp = config.ept || !strcmp(t->mmu, "KVM NPT");
	config.zero_pfn = s->zero_pfn = pagemap_zero_frame();
	s->learn = mem_alloc(LEARN_MAX * sizeof(*s->learn));
	ret = s->learn ? fault_stream_init(&t->stream, &config) : -ENOMEM;
	ret = ret ?: hist_init(&t->ns) ?: hist_init(&t->page_ns);
	for (int i = 0; i < FAULT_CAUSE_NR && !ret; i++)
		ret = hist_init(&t->by_cause[i]);
	return ret ? err_set(err, ret, "no memory") : 0;
}

/* Has it begun just now? */
static bool is_young(pid_t pid)
{
	u64 start = vmm_process_start(pid), ticks = (u64)sysconf(_SC_CLK_TCK);
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now); /* what the start counts from */
	return start && (u64)now.tv_sec < start / ticks + YOUNG_S;
}

/* A process that was started the moment before is about to make its VM. */
static int open_process(struct session *s, struct err *err)
{
	struct vmm_process *p = &s->t->process;
	int ret;

	for (;;) {
		ret = vmm_process_open(p, s->config->pid, err);
		/* Without a pidfd it is no process at all. */
		if (ret != -EINVAL || p->pidfd < 0 || asked_to_stop(s) || !is_young(s->config->pid))
			return ret;
		vmm_process_close(p);
		thread_sleep_ns(10 * NSEC_PER_MSEC);
	}
}

int fault_trace_run(struct fault_trace *t, const struct fault_trace_config *config, struct err *err)
{
	struct session s = { .t = t, .config = config };
	u64 cpu_ns = own_cpu_ns();
	int ret, closed;

	*t = (struct fault_trace){ .process.pidfd = -1, .process.pagemap = -1 };
	ret = open_process(&s, err);
	ret = ret ?: prepare(&s, err);
	if (ret)
		goto free;
	ret = tracer_open(&s.tracer, &t->process, config->buffer_kib, err);
	if (ret)
		goto close;
	snprintf(t->instance, sizeof(t->instance), "%s", tracer_instance(s.tracer));
	t->start_ns = s.areas_ns = clock_ns();
	if (config->ready)
		config->ready(&t->process, config->arg);
	ret = loop(&s, err);
	t->lost = tracer_lost(s.tracer);
	memcpy(t->event, tracer_events(s.tracer), sizeof(t->event));
close:
	closed = tracer_close(s.tracer, ret ? NULL : err);
	ret = ret ?: closed;
free:
	mem_free(s.learn);
	t->cpu_ns = own_cpu_ns() - cpu_ns;
	return ret ?: asked_to_stop(&s) ? -EINTR : 0;
}

void fault_trace_destroy(struct fault_trace *t)
{
	vmm_process_close(&t->process);
	fault_stream_destroy(&t->stream);
	hist_destroy(&t->ns);
	hist_destroy(&t->page_ns);
	for (int i = 0; i < FAULT_CAUSE_NR; i++)
		hist_destroy(&t->by_cause[i]);
	for (u32 i = 0; i < t->nr_areas; i++)
		hist_destroy(&t->area[i].ns);
}

/* --- the working set ------------------------------------------------------------------------------ */

static int by_first(const void *a, const void *b)
{
	const struct fault_page *x = a, *y = b;

	if (x->first_ns != y->first_ns)
		return x->first_ns < y->first_ns ? -1 : 1;
	return x->key < y->key ? -1 : x->key > y->key;
}

char *fault_trace_working_set(const struct fault_trace *t)
{
	static const size_t line = 96; /* the longest: five numbers and a mark */
	struct fault_page *page = mem_alloc((t->stream.pages.nr + 1) * sizeof(*page));
	char *text = NULL, *at;
	u64 n = 0;

	if (!page)
		return NULL;
	for (u64 i = 0; i < t->stream.pages.max; i++)
		if (t->stream.pages.slot[i].count && !fault_page_space(&t->stream.pages.slot[i]))
			page[n++] = t->stream.pages.slot[i];
	if (n)
		qsort(page, n, sizeof(*page), by_first);
	text = mem_alloc((n + 4) * line);
	if (text) {
		at = text + sprintf(text,
				    "# tain working set 1: pid %d, %s, %llu pages\n# gpa hva bytes faults first_ns\n",
				    t->process.pid, t->mmu, (unsigned long long)n);
		for (u64 i = 0; i < n; i++)
			at += sprintf(at, "%#llx %#llx %llu %u %llu\n",
				      (unsigned long long)fault_page_gfn(&page[i]) << PAGE_SHIFT,
				      (unsigned long long)vmm_slots_hva(&t->slots, fault_page_gfn(&page[i])),
				      LEVEL_PAGES(fault_page_level(&page[i])) << PAGE_SHIFT, page[i].count,
				      (unsigned long long)(page[i].first_ns - min(page[i].first_ns, t->start_ns)));
	}
	mem_free(page);
	return text;
}
