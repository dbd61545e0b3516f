/* SPDX-License-Identifier: MIT */
/* The truth table: see lab/matrix/matrix.h. */
#include "lab/matrix/matrix.h"

#include <stdio.h>
#include <string.h>

#include "lab/system/guardian.h"
#include "lab/matrix/internal.h"
#include "lab/host/swap.h"
#include "lib/alloc.h"
#include "lib/time.h"

struct matrix {
	const struct matrix_config *config;
	struct matrix_result *result;
	struct matrix_ranges ranges;
	struct matrix_look before, after;
	struct hist hist;
	/* of the cell under way */
	struct matrix_cell *cell;
	struct touch touch;
	struct matrix_witness witness;
	bool stuck; /* its machine could not be taken down: there is no room for another */
	/* What was found out about a backing: asked once. Empty: nothing against it. */
	struct err no_backing[HOST_BACKING_NR];
	struct err no_uffd[HOST_BACKING_NR];
};

static const char *const state_names[MATRIX_STATE_NR] = {
	[MATRIX_DONE] = "done",	  [MATRIX_REFUSED] = "refused", [MATRIX_SKIPPED] = "skipped",
	[MATRIX_WRONG] = "wrong", [MATRIX_FAILED] = "failed",
};

static const char *const sight_names[SIGHT_NR] = {
	[SIGHT_UNKNOWN] = "unknown", [SIGHT_OLD] = "old data", [SIGHT_ZEROS] = "zeros",
	[SIGHT_FILE] = "file data",  [SIGHT_FAULT] = "fault",  [SIGHT_MIXED] = "mixed",
};

const char *matrix_state_name(enum matrix_state state)
{
	return state_names[state];
}

const char *matrix_sight_name(enum matrix_sight sight)
{
	return sight_names[sight];
}

const char *matrix_events_text(s64 events, char *text)
{
	static const char *const names[] = { "UNMAP", "REMOVE", "REMAP", "FORK", "FAULT" };
	int n = 0;

	if (events <= 0) {
		snprintf(text, 40, "%s", events ? "unknown" : "none");
		return text;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (events & (s64)BIT(i))
			n += snprintf(text + n, (size_t)(40 - n), "%s%s", n ? "+" : "", names[i]);
	return text;
}

/* A column that stays empty, once. */
static void skip(struct matrix *m, const char *what, const char *why)
{
	struct matrix_result *r = m->result;

	for (u32 i = 0; i < r->skips; i++)
		if (!strcmp(r->skip[i].what, what))
			return;
	if (r->skips == MATRIX_SKIPS)
		return;
	snprintf(r->skip[r->skips].what, sizeof(r->skip[0].what), "%s", what);
	snprintf(r->skip[r->skips].why, sizeof(r->skip[0].why), "%.239s", why);
	r->skips++;
}

static void end_cell(struct matrix_cell *c, enum matrix_state state, const char *why)
{
	if (c->state == MATRIX_WRONG) /* the first reason stands */
		return;
	c->state = state;
	snprintf(c->why, sizeof(c->why), "%.239s", why);
}

/* --- looking ------------------------------------------------------------------------------- */

static s64 percent(u64 part, u64 whole)
{
	return (s64)((part * 100 + whole / 2) / whole);
}

static void look(struct matrix *m, struct matrix_look *look)
{
	struct err why = { "" };

	if (matrix_look(&m->touch.machine.host, &m->witness, look, &why))
		skip(m, look->known ? "frames" : "freed, frames", why.text);
}

/* What the operation did to memory, before anybody touches it again. */
static void judge_memory(struct matrix *m)
{
	struct matrix_cell *c = m->cell;
	u64 kib = MATRIX_RANGE / 1024;
	/* A private copy has the file's page beside it. */
	u64 took = MATRIX_PAGES * (host_backing_table[c->backing].kind == BACKING_PRIVATE ? 2 : 1);

	look(m, &m->after);
	if (m->before.known && m->after.known)
		c->freed = m->before.used > m->after.used ? min(percent(m->before.used - m->after.used, took), (s64)100)
							  : 0;
	c->huge_before = m->before.huge_kib;
	c->huge_after = m->after.huge_kib;
	if (m->after.lazy_kib >= 0)
		c->lazy = percent((u64)m->after.lazy_kib, kib);
	if (m->after.swap_kib >= 0)
		c->swapped = percent((u64)m->after.swap_kib, kib);
}

/* When the guest has used the range again: where do its pages stand now? */
static void judge_frames(struct matrix *m)
{
	u64 both = 0, moved = 0;

	look(m, &m->after);
	if (!m->before.frames_known || !m->after.frames_known)
		return;
	for (u64 p = 0; p < MATRIX_PAGES; p++) {
		if (!m->before.frame[p] || !m->after.frame[p])
			continue;
		both++;
		moved += m->before.frame[p] != m->after.frame[p];
	}
	if (both)
		m->cell->moved = percent(moved, both);
}

static void stats(struct matrix *m, struct vm_stats *s)
{
	vm_get_stats(m->touch.machine.vm, s);
}

static s64 zapped_between(const struct matrix *m, const struct vm_stats *before, const struct vm_stats *after)
{
	if (m->touch.machine.host.mm)
		return (s64)(after->zapped - before->zapped);
	if (!before->mapped)
		return MATRIX_UNKNOWN;
	return before->mapped > after->mapped ? (s64)(before->mapped - after->mapped) : 0;
}

/* --- one cell ---------------------------------------------------------------------------------- */

static void refusal(struct matrix *m, int error, const char *said)
{
	struct matrix_cell *c = m->cell;
	bool impossible = op_contents(c->op, c->backing) == OP_IMPOSSIBLE;
	char text[240];

	if (error == -EOPNOTSUPP && (!impossible || m->config->machine.engine->own_mm))
		end_cell(c, MATRIX_SKIPPED, said);
	else if (error == -EOPNOTSUPP) /* there was no call that the kernel could refuse */
		end_cell(c, MATRIX_REFUSED, op_table[c->op].not_why);
	else
		end_cell(c, MATRIX_REFUSED, said);
	if (error == -EOPNOTSUPP || !impossible)
		return;
	snprintf(text, sizeof(text), "%.120s: %.100s", said, op_table[c->op].not_why);
	end_cell(c, MATRIX_REFUSED, text);
}

/*
 * What went to swap is in the swap cache for a while: memory is not free, and an access
 * finds the page there. The row is about what comes after that.
 */
static void wait_out(struct matrix *m)
{
	struct matrix_cell *c = m->cell;
	struct err why = { "" };

	if (c->op != OP_PAGEOUT || c->swapped <= 0)
		return;
	if (swap_wait_out(&m->touch.machine.host, MATRIX_RANGE, &why))
		snprintf(c->cost_why, sizeof(c->cost_why), "%.119s", why.text);
	judge_memory(m);
}

/* The operation itself, with the guest at rest. Return: was it done? */
static bool operate(struct matrix *m)
{
	struct host *host = &m->touch.machine.host;
	struct vm_stats before, after;
	struct matrix_cell *c = m->cell;
	struct err why = { "" }, unknown = { "" };
	u64 start;
	int ret;

	stats(m, &before);
	c->huge_sptes = before.mapped ? (s64)before.mapped_2m : MATRIX_UNKNOWN;
	matrix_ranges_watch(&m->ranges, host->data, host->data + MATRIX_RANGE, &unknown);
	start = clock_ns();
	ret = host->ops->begin(host, c->op, 0, MATRIX_RANGE, &why);
	c->op_ns = clock_ns() - start;
	matrix_ranges_take(&m->ranges, &c->ranges, &c->range_pages, &unknown);
	if (unknown.text[0])
		skip(m, "ranges", unknown.text);
	stats(m, &after);
	if (ret) {
		refusal(m, ret, why.text);
		return false;
	}
	c->zapped = zapped_between(m, &before, &after);
	judge_memory(m);
	wait_out(m);
	return true;
}

static int use_range(struct matrix *m, struct err *err)
{
	struct matrix_cell *c = m->cell;
	struct vm_stats before, after;
	int ret;

	stats(m, &before);
	ret = matrix_use(&m->touch, false, err);
	stats(m, &after);
	c->faults = after.counted ? (s64)(after.faults - before.faults) : MATRIX_UNKNOWN;
	m->result->counted = after.counted;
	m->result->faults += after.faults - before.faults;
	ret = ret ?: matrix_see(&m->touch, false, &c->after, err);
	return ret ?: matrix_use(&m->touch, true, err);
}

static int end_operation(struct matrix *m, struct err *err)
{
	struct host *host = &m->touch.machine.host;

	return host->ops->end(host, err);
}

/* Where accesses fail until the end: end first. */
static int absent_guest(struct matrix *m, struct err *err)
{
	struct matrix_cell *c = m->cell;
	int ret = matrix_probe(&m->touch, &c->during, err), end = end_operation(m, ret ? NULL : err);

	ret = ret ?: end;
	ret = ret ?: touch_wait(&m->touch, err);
	if (!ret && c->during != SIGHT_FAULT)
		end_cell(c, MATRIX_WRONG, "a guest access did not fail while there was nothing to access");
	return ret ?: use_range(m, err);
}

/* Else: the guest at work, then the end; what the guest wrote must survive it. */
static int present_guest(struct matrix *m, struct err *err)
{
	struct matrix_cell *c = m->cell;
	enum matrix_sight own = SIGHT_OLD;
	int ret = use_range(m, err), end;

	if (!ret)
		judge_frames(m);
	end = end_operation(m, ret ? NULL : err);
	ret = ret ?: end;
	ret = ret ?: matrix_see(&m->touch, true, &own, err);
	if (!ret && own != SIGHT_OLD)
		end_cell(c, MATRIX_WRONG, "the guest's own writes were gone after the end of the operation");
	if (m->touch.machine.host.child_changed)
		end_cell(c, MATRIX_WRONG, "the child's private copy changed when the guest wrote");
	return ret;
}

static bool kept(const struct matrix_cell *c)
{
	switch (op_contents(c->op, c->backing)) {
	case OP_KEEPS:
		return c->after == SIGHT_OLD;
	case OP_ZEROES:
		return c->after == SIGHT_ZEROS;
	case OP_REVERTS:
		return c->after == SIGHT_FILE;
	case OP_LAZY:
		return c->after == SIGHT_OLD || c->after == SIGHT_ZEROS || c->after == SIGHT_MIXED;
	case OP_IMPOSSIBLE:
		break;
	}
	return false;
}

static int guest_part(struct matrix *m, struct err *err)
{
	struct matrix_cell *c = m->cell;
	enum matrix_sight sight;
	char text[120];
	int ret = matrix_see(&m->touch, false, &sight, err);

	if (ret)
		return ret;
	if (sight != SIGHT_OLD)
		return err_set(err, -EIO, "%s: the guest sees %s before anything happened",
			       host_backing_table[c->backing].name, sight_names[sight]);
	look(m, &m->before);
	if (matrix_lacks_huge(c->backing, &m->before, text, sizeof(text))) {
		end_cell(c, MATRIX_SKIPPED, text);
		return 0;
	}
	if (!operate(m))
		return 0;
	if (op_table[c->op].absent) {
		ret = absent_guest(m, err);
		if (!ret)
			judge_frames(m);
	} else {
		ret = present_guest(m, err);
	}
	if (!ret && !kept(c)) {
		snprintf(text, sizeof(text), "the guest sees %s afterwards, which is not what is promised",
			 sight_names[c->after]);
		end_cell(c, MATRIX_WRONG, text);
	}
	if (ret || c->cost_why[0])
		return ret;
	return matrix_cost(&m->touch, c, &m->hist, &m->result->faults, err);
}

static void uffd_part(struct matrix *m)
{
	struct matrix_cell *c = m->cell;
	struct err *no = &m->no_uffd[c->backing], why = { "" };

	if (m->config->machine.engine->own_mm || c->state == MATRIX_REFUSED || c->state == MATRIX_SKIPPED)
		return;
	if (!no->text[0] && matrix_uffd(c->op, c->backing, no, &c->events, &why))
		snprintf(c->events_why, sizeof(c->events_why), "%.119s", why.text);
	if (no->text[0])
		snprintf(c->events_why, sizeof(c->events_why), "%.119s", no->text);
}

/*
 * No guest is needed to be refused: what nothing can do to this backing, and what this
 * run may not do. Return: is that all there is to the cell?
 */
static bool without_guest(struct matrix *m)
{
	struct matrix_cell *c = m->cell;
	struct host host = { .backing = c->backing, .bytes = MATRIX_BYTES, .limbo_bytes = MATRIX_RANGE };
	bool impossible = op_contents(c->op, c->backing) == OP_IMPOSSIBLE;
	struct err why = { "" };
	int ret;

	if (m->no_backing[c->backing].text[0]) {
		end_cell(c, MATRIX_SKIPPED, m->no_backing[c->backing].text);
		return true;
	}
	if (m->config->machine.engine->own_mm || (!impossible && (!op_table[c->op].system || guardian_running())))
		return false;
	if (host_create(&host, &why)) /* what the machine says to it tells more */
		return false;
	ret = host.ops->begin(&host, c->op, 0, MATRIX_RANGE, &why);
	host_destroy(&host);
	if (ret)
		refusal(m, ret, why.text);
	else if (impossible)
		end_cell(c, MATRIX_WRONG, "it was done, and is said to be impossible");
	return ret || impossible;
}

static int one_cell(struct matrix *m, struct err *err)
{
	struct machine_config config = m->config->machine;
	struct matrix_cell *c = m->cell;
	struct err why = { "" };
	int ret, end;

	if (without_guest(m))
		return 0;
	config.vcpus = 1;
	config.bytes = MATRIX_BYTES;
	config.limbo_bytes = MATRIX_RANGE;
	config.backing = c->backing;
	ret = touch_start(&m->touch, &config, m->config->stop, &why);
	if (ret == -EOPNOTSUPP) {
		m->no_backing[c->backing] = why;
		end_cell(c, MATRIX_SKIPPED, why.text);
		return 0;
	}
	if (ret)
		return err_set(err, ret, "%s", why.text);
	m->result->id = m->touch.machine.id;
	m->result->ran = true;
	thread_pin(machine_host_cpu(&m->touch.machine));
	ret = matrix_witness_open(&m->witness, &m->touch.machine.host, err);
	if (!ret && matrix_fill(&m->touch.machine.host))
		ret = err_set(err, -EIO, "%s: DATA cannot be written", host_backing_table[c->backing].name);
	ret = ret ?: guest_part(m, err);
	matrix_witness_close(&m->witness);
	thread_pin(-1);
	end = touch_end(&m->touch, ret ? NULL : err);
	m->stuck = end != 0;
	if (!ret && !end)
		uffd_part(m);
	return ret ?: end;
}

/* --- all cells ------------------------------------------------------------------------------------ */

static struct matrix_cell blank_cell(enum host_op op, enum host_backing backing)
{
	return (struct matrix_cell){
		.op = op,
		.backing = backing,
		.freed = MATRIX_UNKNOWN,
		.lazy = MATRIX_UNKNOWN,
		.swapped = MATRIX_UNKNOWN,
		.moved = MATRIX_UNKNOWN,
		.huge_before = MATRIX_UNKNOWN,
		.huge_after = MATRIX_UNKNOWN,
		.huge_sptes = MATRIX_UNKNOWN,
		.zapped = MATRIX_UNKNOWN,
		.ranges = MATRIX_UNKNOWN,
		.range_pages = MATRIX_UNKNOWN,
		.events = MATRIX_UNKNOWN,
	};
}

/* What was half found out is not told; but what is wrong stays wrong. */
static void fail_cell(struct matrix_cell *c, const char *why)
{
	if (c->state == MATRIX_WRONG)
		return;
	*c = blank_cell(c->op, c->backing);
	end_cell(c, MATRIX_FAILED, why);
}

static void list_cells(const struct matrix_config *config, struct matrix_result *r)
{
	for (int op = 0; op < OP_NR; op++)
		for (int b = 0; b < HOST_BACKING_NR; b++)
			if (config->ops & BIT(op) && config->backings & BIT(b))
				r->cell[r->planned++] = blank_cell(op, b);
}

/* One cell's failure is its own: the next has another machine. */
static int all_cells(struct matrix *m, struct err *err)
{
	const struct matrix_config *c = m->config;
	struct matrix_result *r = m->result;
	int ret = 0;

	while (r->nr < r->planned && !m->stuck) {
		struct err why = { "" };

		if (c->stop && READ_ONCE(*c->stop))
			return -EINTR;
		m->cell = &r->cell[r->nr];
		if (c->progress)
			c->progress(m->cell, r->nr, r->planned, c->arg);
		ret = one_cell(m, &why);
		if (ret == -EINTR)
			return ret; /* what was not finished is not told */
		if (ret)
			fail_cell(m->cell, why.text);
		if (m->stuck)
			err_set(err, ret, "%s", why.text);
		r->states[m->cell->state]++;
		r->nr++;
	}
	return m->stuck ? ret : 0;
}

int matrix_run(const struct matrix_config *config, struct matrix_result *result, struct err *err)
{
	struct matrix *m = mem_zalloc(sizeof(*m));
	struct err why = { "" };
	u64 start = clock_ns();
	int ret;

	memset(result, 0, sizeof(*result));
	if (!m)
		return err_set(err, -ENOMEM, "no memory");
	m->config = config;
	m->result = result;
	list_cells(config, result);
	ret = hist_init(&m->hist) ? err_set(err, -ENOMEM, "no memory") : 0;
	if (config->machine.engine->own_mm)
		skip(m, "uffd, ranges", "they are Linux's; use --engine kvm");
	else if (matrix_ranges_open(&m->ranges, &why))
		skip(m, "ranges", why.text);
	ret = ret ?: all_cells(m, err);
	matrix_ranges_close(&m->ranges);
	result->elapsed_ns = clock_ns() - start;
	hist_destroy(&m->hist);
	if (!m->stuck) /* else a vCPU still uses it */
		mem_free(m);
	return ret;
}
