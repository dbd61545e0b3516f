/* SPDX-License-Identifier: MIT */
/* The matrix: what the guest sees in the range, and what it costs. */
#include "lab/matrix/internal.h"

#include <string.h>
#include <unistd.h>

#include "lib/time.h"

/* So many failed accesses in a row are no accident. */
#define FAILURES 3

int matrix_fill(struct host *host)
{
	bool file = host_backing_table[host->backing].kind == BACKING_PRIVATE;

	/* First the file, whose pages a private mapping copies when it is written. */
	for (u64 p = 0; file && p < host->bytes / PAGE_SIZE; p++) {
		u64 value = MATRIX_FILE + p, at = p * PAGE_SIZE + GUEST_TOUCH_OFFSET(p);

		if (pwrite(host->fd, &value, sizeof(value), (off_t)at) != sizeof(value))
			return errno ? -errno : -EIO;
	}
	for (u64 p = 0; p < host->bytes / PAGE_SIZE; p++) {
		int ret = host->ops->write64(host, p * PAGE_SIZE + GUEST_TOUCH_OFFSET(p), matrix_old(p));

		if (ret)
			return ret;
	}
	return 0;
}

static enum matrix_sight classify(u64 page, u32 value, bool written)
{
	if (value == (written ? (u32)page + 1 : matrix_old(page)))
		return SIGHT_OLD;
	if (!value)
		return SIGHT_ZEROS;
	return value == MATRIX_FILE + page ? SIGHT_FILE : SIGHT_MIXED;
}

int matrix_see(struct touch *t, bool written, enum matrix_sight *sight, struct err *err)
{
	const struct guest_command look = { .pages = MATRIX_PAGES, .timed = GUEST_SAMPLE_VALUE };
	const u32 *value = touch_samples(t, 0);
	int ret;

	touch_post(t, &look);
	ret = touch_wait(t, err);
	if (ret)
		return ret;
	*sight = classify(0, READ_ONCE(value[0]), written);
	for (u64 p = 1; p < MATRIX_PAGES; p++)
		if (classify(p, READ_ONCE(value[p]), written) != *sight)
			*sight = SIGHT_MIXED;
	return 0;
}

int matrix_probe(struct touch *t, enum matrix_sight *sight, struct err *err)
{
	const struct guest_command look = { .first = MATRIX_PAGES - 1, .pages = 1, .timed = GUEST_SAMPLE_VALUE };
	const u64 *retried = &t->machine.vcpu[0].retried;
	u64 before = READ_ONCE(*retried);

	touch_post(t, &look);
	while (!touch_answered(t) && READ_ONCE(*retried) < before + FAILURES) {
		if (machine_failed(&t->machine) || (t->stop && READ_ONCE(*t->stop)))
			return touch_wait(t, err);
		thread_sleep_ns(10 * NSEC_PER_USEC);
	}
	*sight = SIGHT_FAULT;
	if (!touch_answered(t))
		return 0;
	*sight = classify(MATRIX_PAGES - 1, READ_ONCE(touch_samples(t, 0)[0]), false);
	return 0;
}

int matrix_use(struct touch *t, bool write, struct err *err)
{
	const struct guest_command command = {
		.pages = MATRIX_PAGES,
		.order = GUEST_ORDER_STRIDE,
		.stride = MATRIX_NEAR,
		.write = write,
	};

	return touch_run(t, &command, NULL, NULL, NULL, err);
}

int matrix_time(struct touch *t, u64 apart, bool write, struct hist *hist, struct err *err)
{
	const struct guest_command command = {
		.pages = MATRIX_PAGES,
		.order = GUEST_ORDER_STRIDE,
		.stride = apart,
		.limit = MATRIX_PAGES / apart,
		.timed = GUEST_SAMPLE_CYCLES,
		.write = write,
	};
	const u32 *sample = touch_samples(t, 0);
	int ret = touch_run(t, &command, NULL, NULL, NULL, err);

	for (u64 i = 0; i < command.limit && !ret; i++)
		hist_add(hist, cycles_to_ns(READ_ONCE(sample[i])));
	return ret;
}
