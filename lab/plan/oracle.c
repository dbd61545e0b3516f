/* SPDX-License-Identifier: MIT */
/* The oracle: see lab/plan/oracle.h for what it promises and why. */
#include "lab/plan/oracle.h"

#include <stdio.h>
#include <string.h>

#include "lab/plan/trace.h"
#include "lib/alloc.h"
#include "lib/atomic.h"

static u64 stamp_offset(u64 page, unsigned int i)
{
	return page * PAGE_SIZE + GUEST_STAMP_OFFSET + i * GUEST_STAMP_STRIDE;
}

static u64 slot_offset(u64 page, u32 vcpu)
{
	return page * PAGE_SIZE + GUEST_WSLOT_OFFSET + vcpu * sizeof(u64);
}

/* Pages stamped between two looks at whether to stop: some milliseconds. */
#define STAMP_PIECE 4096ull

int oracle_create(struct oracle *o, struct host *host, struct guest_page_rule *rule, u64 pages, u32 vcpus, u64 seed,
		  u64 max_step, const u32 *stop)
{
	int ret = -ENOMEM;

	*o = (struct oracle){ .host = host, .rule = rule, .pages = pages, .vcpus = vcpus, .seed = seed };
	violation_log_init(&o->log);
	o->generation = mem_zalloc(pages * sizeof(*o->generation));
	o->stamped = mem_zalloc(pages);
	o->last_step = mem_zalloc(pages * sizeof(*o->last_step));
	o->last_op = mem_zalloc(pages);
	o->slots = mem_zalloc(max_step * vcpus * sizeof(*o->slots));
	if (!o->generation || !o->stamped || !o->last_step || !o->last_op || !o->slots)
		goto fail;
	for (u64 i = 0; i < pages; i++)
		o->last_step[i] = VIOLATION_NO_STEP;
	oracle_announce(o, 0, pages);
	ret = 0;
	for (u64 i = 0; i < pages && !ret; i += STAMP_PIECE)
		ret = stop && READ_ONCE(*stop) ? -EINTR : oracle_stamp(o, i, min(pages - i, STAMP_PIECE));
	if (ret)
		goto fail;
	oracle_require(o, 0, pages);
	return 0;
fail:
	oracle_destroy(o);
	return ret;
}

void oracle_destroy(struct oracle *o)
{
	violation_log_destroy(&o->log);
	mem_free(o->generation);
	mem_free(o->stamped);
	mem_free(o->last_step);
	mem_free(o->last_op);
	mem_free(o->slots);
	o->generation = NULL;
	o->stamped = NULL;
	o->last_step = NULL;
	o->last_op = NULL;
	o->slots = NULL;
}

void oracle_begin(struct oracle *o, const struct plan_step *step)
{
	for (u64 i = step->first; i < step->first + step->pages; i++) {
		WRITE_ONCE(o->last_step[i], step->index);
		WRITE_ONCE(o->last_op[i], (u8)step->op);
	}
	lab_trace(STEP, step->index, step->op, step->first, step->pages);
}

void oracle_announce(struct oracle *o, u64 first, u64 pages)
{
	lab_trace(ANNOUNCE, first, pages, 0, 0);
	for (u64 i = first; i < first + pages; i++) {
		o->generation[i]++;
		o->stamped[i] = 0;
		WRITE_ONCE(o->rule[i].announced, o->generation[i]);
	}
	smp_mb(); /* A of O1: pairs with the guest's load-acquire of a stamp (B) */
}

static int write_stamps(struct oracle *o, u64 page, u32 generation)
{
	u64 stamp = guest_stamp(page, generation);
	int ret = 0;

	for (unsigned int j = 0; j < GUEST_STAMPS && !ret; j++)
		ret = o->host->ops->write64(o->host, stamp_offset(page, j), stamp);
	return ret;
}

int oracle_stamp(struct oracle *o, u64 first, u64 pages)
{
	int ret = 0;

	for (u64 i = first; i < first + pages && !ret; i++) {
		ret = write_stamps(o, i, o->generation[i]);
		o->stamped[i] = 1;
	}
	return ret;
}

int oracle_plant(struct oracle *o, u64 first, u64 pages)
{
	int ret = 0;

	for (u64 i = first; i < first + pages && !ret; i++)
		ret = write_stamps(o, i, o->generation[i] - 1);
	return ret;
}

void oracle_require(struct oracle *o, u64 first, u64 pages)
{
	lab_trace(REQUIRE, first, pages, !o->stamped[first], 0);
	for (u64 i = first; i < first + pages; i++)
		/* Pairs with the guest's load-acquire of required: the operation before it has returned. */
		smp_store_release(&o->rule[i].required, o->generation[i] << 1 | (o->stamped[i] ? 0u : 1u));
}

void oracle_promise(struct oracle *o, u64 first, u64 pages)
{
	memset(o->stamped + first, 1, pages);
	oracle_require(o, first, pages);
}

static int write_marks(struct oracle *o, bool limbo, u64 first, u64 pages, bool mark)
{
	int ret = 0;

	for (u64 i = first; i < first + pages && !ret; i++) {
		u64 truth = o->stamped[i] ? guest_stamp(i, o->generation[i]) : 0;
		u64 word = mark ? guest_stamp(i, o->generation[i] + 1) : truth;

		for (unsigned int j = 0; j < GUEST_STAMPS && !ret; j++)
			ret = (limbo ? o->host->ops->limbo_write64 : o->host->ops->write64)(o->host, stamp_offset(i, j),
											    word);
	}
	return ret;
}

int oracle_mark(struct oracle *o, bool limbo, u64 first, u64 pages)
{
	return write_marks(o, limbo, first, pages, true);
}

int oracle_unmark(struct oracle *o, bool limbo, u64 first, u64 pages)
{
	return write_marks(o, limbo, first, pages, false);
}

static int read_slot(struct oracle *o, bool limbo, u64 page, u32 vcpu, u64 *value)
{
	const struct host_ops *ops = o->host->ops;

	return (limbo ? ops->limbo_read64 : ops->read64)(o->host, slot_offset(page, vcpu), value);
}

int oracle_snapshot(struct oracle *o, bool limbo, u64 first, u64 pages)
{
	int ret = 0;

	o->slots_first = first;
	o->slots_pages = pages;
	for (u64 i = 0; i < pages && !ret; i++)
		for (u32 v = 0; v < o->vcpus && !ret; v++)
			ret = read_slot(o, limbo, first + i, v, &o->slots[i * o->vcpus + v]);
	return ret;
}

int oracle_compare(struct oracle *o, bool limbo)
{
	u64 now, before;
	int ret = 0;

	for (u64 i = 0; i < o->slots_pages; i++) {
		for (u32 v = 0; v < o->vcpus; v++) {
			ret = read_slot(o, limbo, o->slots_first + i, v, &now);
			if (ret)
				return ret;
			before = o->slots[i * o->vcpus + v];
			if (now != before)
				oracle_report(o, VIOLATION_STALE_WRITE, o->slots_first + i, v, now, before,
					      limbo ? "the page had been moved away or replaced"
						    : "the page was read-only");
		}
	}
	return 0;
}

int oracle_written(struct oracle *o, u64 *written)
{
	u64 now;

	for (u64 i = 0; i < o->slots_pages; i++) {
		for (u32 v = 0; v < o->vcpus; v++) {
			u64 page = o->slots_first + i;
			int ret = read_slot(o, false, page, v, &now);

			if (ret)
				return ret;
			if (now != o->slots[i * o->vcpus + v])
				written[page / 64] |= 1ull << page % 64;
		}
	}
	return 0;
}

enum guest_violation_kind oracle_judge(u64 page, u32 required, u64 seen, u32 announced)
{
	u32 low = required >> 1;
	u32 span = (announced - low) & GUEST_GENERATION_MASK;

	if (!seen)
		return required & 1 || span ? GUEST_VIOLATION_NONE : GUEST_VIOLATION_ZERO;
	if (!guest_stamp_valid(seen))
		return GUEST_VIOLATION_CORRUPT;
	if (guest_stamp_page(seen) != guest_stamp_page(guest_stamp(page, 0)))
		return GUEST_VIOLATION_FOREIGN;
	if (((guest_stamp_generation(seen) - low) & GUEST_GENERATION_MASK) > span)
		return GUEST_VIOLATION_STALE;
	return GUEST_VIOLATION_NONE;
}

static void fill_step(struct oracle *o, struct violation *v)
{
	v->seed = o->seed;
	v->step = VIOLATION_NO_STEP;
	if (v->page >= o->pages)
		return;
	v->step = READ_ONCE(o->last_step[v->page]);
	v->op = READ_ONCE(o->last_op[v->page]);
}

void oracle_collect(struct oracle *o, u32 vcpu, const struct guest_vcpu *gv)
{
	u64 reported = smp_load_acquire(&gv->violations);
	u64 kept = min(reported, (u64)GUEST_VIOLATION_RING);
	u64 i = o->guest_seen[vcpu];

	for (; i < kept; i++) {
		const struct guest_violation *from = &gv->violation[i];
		u32 kind = smp_load_acquire(&from->kind); /* written last: the rest is there */
		struct violation v = {
			/* The guest is not trusted: an unknown kind is some corruption. */
			.kind = kind > GUEST_VIOLATION_NONE && kind <= GUEST_VIOLATION_LOST ? kind : VIOLATION_CORRUPT,
			.vcpu = vcpu,
			.page = READ_ONCE(from->page),
			.seen = READ_ONCE(from->seen),
			.required = READ_ONCE(from->required),
			.announced = READ_ONCE(from->announced),
			.expected = READ_ONCE(from->expected),
		};

		fill_step(o, &v);
		violation_add(&o->log, &v);
	}
	if (reported > i) { /* the guest kept the first ones only */
		violation_count(&o->log, reported - i);
		i = reported;
	}
	o->guest_seen[vcpu] = i;
}

int oracle_verify(struct oracle *o)
{
	for (u64 i = 0; i < o->pages; i++) {
		for (unsigned int j = 0; j < GUEST_STAMPS; j++) {
			u64 seen;
			int ret = o->host->ops->read64(o->host, stamp_offset(i, j), &seen);

			if (ret)
				return ret;
			if (oracle_judge(i, o->rule[i].required, seen, o->rule[i].announced) == GUEST_VIOLATION_NONE)
				continue;
			oracle_report(o, VIOLATION_CONTENT, i, VIOLATION_NO_VCPU, seen,
				      o->stamped[i] ? guest_stamp(i, o->generation[i]) : 0, "");
			break; /* one record a page */
		}
	}
	return 0;
}

void oracle_report(struct oracle *o, enum violation_kind kind, u64 page, u32 vcpu, u64 seen, u64 expected,
		   const char *text)
{
	struct violation v = { .kind = kind, .page = page, .vcpu = vcpu, .seen = seen, .expected = expected };

	if (page < o->pages) {
		v.required = READ_ONCE(o->rule[page].required);
		v.announced = READ_ONCE(o->rule[page].announced);
	}
	snprintf(v.text, sizeof(v.text), "%s", text);
	fill_step(o, &v);
	violation_add(&o->log, &v);
}
