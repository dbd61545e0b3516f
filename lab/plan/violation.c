/* SPDX-License-Identifier: MIT */
/* Records of violations: see lab/plan/violation.h. */
#include "lab/plan/violation.h"

#include <string.h>

#include "lab/plan/trace.h"
#include "lib/alloc.h"

/* How many of each thread's last trace events a record keeps, and in how many bytes. */
#define TRACE_EVENTS 12
#define TRACE_BYTES 8192

static DEFINE_LOCK_CLASS(violation_class, "violation log");

static const struct {
	const char *name;
	const char *summary;
} kinds[VIOLATION_KIND_NR] = {
	[VIOLATION_STALE] = { "stale-read", "a guest read a generation that was already forbidden" },
	[VIOLATION_ZERO] = { "zero", "a guest read zeros where a stamp must be" },
	[VIOLATION_FOREIGN] = { "foreign", "a guest read the stamp of another page" },
	[VIOLATION_CORRUPT] = { "corrupt", "a guest read what nobody wrote there" },
	[VIOLATION_LOST] = { "lost-write", "a guest's own write is gone and no operation took it" },
	[VIOLATION_STALE_WRITE] = { "stale-write",
				    "a guest wrote to a page after its translation had been taken away" },
	[VIOLATION_FRAME] = { "freed-frame", "a freed frame was written" },
	[VIOLATION_MIRROR] = { "mirror", "an entry or a TLB differs from the host's page tables" },
	[VIOLATION_CONTENT] = { "content", "the host reads a forbidden stamp with all guests at rest" },
	[VIOLATION_STALL] = { "stall", "no progress" },
	[VIOLATION_CHILD] = { "child", "a forked child's copy is not what was there at the fork" },
	[VIOLATION_LOST_FAULT] = { "lost-fault", "a write to a page that userfaultfd protected, or an entry that minor "
						 "faults bring, without the fault" },
	[VIOLATION_LOST_DIRTY] = { "lost-dirty", "a guest wrote to a page and the dirty log does not say so" },
};

const char *violation_name(enum violation_kind kind)
{
	return kind < VIOLATION_KIND_NR && kinds[kind].name ? kinds[kind].name : "unknown";
}

const char *violation_summary(enum violation_kind kind)
{
	return kind < VIOLATION_KIND_NR && kinds[kind].summary ? kinds[kind].summary
							       : "a kind this version does not know";
}

void violation_log_init(struct violation_log *log)
{
	memset(log, 0, sizeof(*log));
	spin_lock_init(&log->lock, &violation_class);
}

void violation_log_destroy(struct violation_log *log)
{
	for (u32 i = 0; i < log->nr; i++)
		mem_free(log->record[i].trace);
	log->nr = 0;
}

void violation_add(struct violation_log *log, const struct violation *v)
{
	bool first = false;

	spin_lock(&log->lock);
	log->total++;
	if (log->nr < VIOLATION_RECORDS) {
		log->record[log->nr] = *v;
		log->record[log->nr].trace = NULL;
		log->nr++;
		first = !log->announced;
		log->announced = true;
	}
	spin_unlock(&log->lock);
	/* One event for all that are found together: more would push out of the dump what led to them. */
	if (first)
		lab_trace(VIOLATION, v->kind, v->page, v->seen, v->vcpu);
}

void violation_count(struct violation_log *log, u64 nr)
{
	spin_lock(&log->lock);
	log->total += nr;
	spin_unlock(&log->lock);
}

struct trace_text {
	char *bytes;
	size_t used;
};

/* The newest lines stay. */
static void trace_line(const char *text, void *arg)
{
	struct trace_text *t = arg;
	size_t len = strlen(text);

	while (t->used && t->used + len + 2 > TRACE_BYTES) {
		size_t line = (size_t)(strchr(t->bytes, '\n') + 1 - t->bytes);

		memmove(t->bytes, t->bytes + line, t->used + 1 - line);
		t->used -= line;
	}
	if (len + 2 > TRACE_BYTES)
		return;
	memcpy(t->bytes + t->used, text, len);
	t->used += len;
	t->bytes[t->used++] = '\n';
	t->bytes[t->used] = 0;
}

void violation_trace(struct violation_log *log)
{
	struct trace_text t;
	u32 nr;

	spin_lock(&log->lock);
	nr = log->nr;
	log->announced = false;
	spin_unlock(&log->lock);
	for (; log->traced < nr; log->traced++) {
		t = (struct trace_text){ .bytes = mem_zalloc(TRACE_BYTES) };
		if (!t.bytes)
			return;
		trace_dump(TRACE_EVENTS, trace_line, &t);
		if (!t.used) {
			mem_free(t.bytes);
			t.bytes = NULL;
		}
		log->record[log->traced].trace = t.bytes;
	}
}

u64 violation_total(struct violation_log *log)
{
	u64 total;

	spin_lock(&log->lock);
	total = log->total;
	spin_unlock(&log->lock);
	return total;
}
