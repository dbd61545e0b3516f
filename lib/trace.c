/* SPDX-License-Identifier: MIT */
/* Trace rings: one writer each, dumped at any time by anybody. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/atomic.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "lib/trace.h"

#define RECORD_WORDS 8

/* All words are written and read with relaxed atomics: a dump may catch a writer in the middle. */
union record {
	struct {
		u64 cycles;
		u64 room; /* const struct trace_room * */
		u64 event;
		char thread[8]; /* ids are reused: the name tells whose record it is */
		u64 args[4];
	};
	u64 words[RECORD_WORDS];
};
static_assert(sizeof(union record) == CACHELINE, "one record, one cache line");

struct ring {
	union record records[TRACE_RING_RECORDS];
	u64 head; /* records written so far; head % TRACE_RING_RECORDS is written next */
};

u32 trace_on;
static struct ring *rings[THREAD_MAX]; /* each made by the first thread of that id, and kept */

void trace_set(bool on)
{
	WRITE_ONCE(trace_on, on);
}

static struct ring *ring_get(void)
{
	struct ring **slot = &rings[thread_id()], *ring = READ_ONCE(*slot);

	if (unlikely(!ring)) {
		/* Not mem_alloc(): rings outlive what allocation checks watch. No memory, no trace. */
		if (posix_memalign((void **)&ring, CACHELINE, sizeof(*ring)))
			return NULL;
		memset(ring, 0, sizeof(*ring));
		smp_store_release(slot, ring);
	}
	return ring;
}

void trace_record(const struct trace_room *room, u32 event, u64 a, u64 b, u64 c, u64 d)
{
	union record new = { .cycles = cycles(), .room = (uintptr_t)room, .event = event, .args = { a, b, c, d } };
	struct ring *ring = ring_get();
	union record *record;
	u64 head;

	if (unlikely(!ring))
		return;
	memcpy(new.thread, thread_name(), sizeof(new.thread));
	head = ring->head;
	record = &ring->records[head % TRACE_RING_RECORDS];
	/* Pairs with the fence in record_read(): who reads a word of the new record sees this head or a later one. */
	smp_wmb();
	for (int i = 0; i < RECORD_WORDS; i++)
		WRITE_ONCE(record->words[i], new.words[i]);
	smp_store_release(&ring->head, head + 1);
}

/* Copy record @index. Return: false if it was or is being overwritten. */
static bool record_read(const struct ring *ring, u64 index, union record *out)
{
	const union record *record = &ring->records[index % TRACE_RING_RECORDS];

	for (int i = 0; i < RECORD_WORDS; i++)
		out->words[i] = READ_ONCE(record->words[i]);
	smp_rmb(); /* pairs with the fence in trace_record() */
	return READ_ONCE(ring->head) < index + TRACE_RING_RECORDS;
}

struct cursor {
	u64 next, end;
	union record record; /* the one at next - 1 */
	bool valid;
};

static void cursor_step(struct cursor *cursor, const struct ring *ring)
{
	cursor->valid = false;
	while (cursor->next < cursor->end && !cursor->valid)
		cursor->valid = record_read(ring, cursor->next++, &cursor->record);
}

static u64 cursor_init(struct cursor *cursor, const struct ring *ring, unsigned int last)
{
	union record newest;
	u64 limit = last && last < TRACE_RING_RECORDS ? last : TRACE_RING_RECORDS;

	cursor->end = smp_load_acquire(&ring->head);
	cursor->next = cursor->end > limit ? cursor->end - limit : 0;
	newest.cycles = 0;
	if (cursor->end && !record_read(ring, cursor->end - 1, &newest))
		newest.cycles = 0;
	cursor_step(cursor, ring);
	return newest.cycles;
}

static void record_print(const union record *record, u64 newest, void (*line)(const char *text, void *arg), void *arg)
{
	const struct trace_room *room = (const struct trace_room *)(uintptr_t)record->room;
	u64 ago = newest > record->cycles ? cycles_to_ns(newest - record->cycles) : 0;
	const struct trace_event_desc *desc;
	char name[48], args[160], text[256];

	if (!room || record->event >= room->nr)
		return;
	desc = &room->events[record->event];
	snprintf(name, sizeof(name), "%s:%s", room->name, desc->name);
	snprintf(args, sizeof(args), desc->format, (unsigned long long)record->args[0],
		 (unsigned long long)record->args[1], (unsigned long long)record->args[2],
		 (unsigned long long)record->args[3]);
	snprintf(text, sizeof(text), "-%llu.%03llu us  %-8.8s %-24s %s", (unsigned long long)(ago / 1000),
		 (unsigned long long)(ago % 1000), record->thread, name, args);
	line(text, arg);
}

void trace_dump(unsigned int last, void (*line)(const char *text, void *arg), void *arg)
{
	struct cursor cursors[THREAD_MAX];
	u32 nr = READ_ONCE(thread_high);
	u64 newest = 0;

	for (u32 i = 0; i < nr; i++) {
		const struct ring *ring = smp_load_acquire(&rings[i]);

		cursors[i].valid = false;
		if (ring)
			newest = max(newest, cursor_init(&cursors[i], ring, last));
	}
	for (;;) {
		struct cursor *oldest = NULL;

		for (u32 i = 0; i < nr; i++) {
			if (cursors[i].valid && (!oldest || cursors[i].record.cycles < oldest->record.cycles))
				oldest = &cursors[i];
		}
		if (!oldest)
			return;
		record_print(&oldest->record, newest, line, arg);
		cursor_step(oldest, smp_load_acquire(&rings[oldest - cursors]));
	}
}

void trace_reset(void)
{
	for (u32 i = 0; i < READ_ONCE(thread_high); i++) {
		struct ring *ring = smp_load_acquire(&rings[i]);

		if (ring)
			WRITE_ONCE(ring->head, 0);
	}
}
