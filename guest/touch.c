/* SPDX-License-Identifier: MIT */
/*
 * Workload: the guest's half of every latency measurement. The host posts a
 * command, the guest obeys: one access per page, each timed if asked.
 *
 * A sample is the time between two stamps around one access; what the stamps cost
 * themselves is measured by a second command on the same, now warm pages.
 */
#include "guest/order.h"

/* Nothing after it starts before the counter was read; nothing before it is still under way. */
static inline uint64_t touch_begin(void)
{
	uint64_t now = guest_cycles();

	__asm__ __volatile__("lfence" ::: "memory");
	return now;
}

static inline uint64_t touch_end(void)
{
	__asm__ __volatile__("lfence" ::: "memory");
	return guest_cycles();
}

static inline uint64_t touch_gpa(const struct guest *g, uint64_t page)
{
	return guest_data_base(g) + (page << GUEST_PAGE_SHIFT) + GUEST_TOUCH_OFFSET(page);
}

static inline void touch_page(struct guest *g, uint64_t page, uint32_t write)
{
	if (write)
		guest_write64(g, touch_gpa(g, page), page + 1);
	else
		guest_read64(g, touch_gpa(g, page));
}

/* Page after page: between two accesses the next address is made, and nothing else. */
static void touch_row(struct guest *g, uint64_t page, uint64_t pages, uint32_t write)
{
	uint64_t end = page + pages;

	if (write)
		for (; page < end; page++)
			guest_write64(g, touch_gpa(g, page), page + 1);
	else
		for (; page < end; page++)
			guest_read64(g, touch_gpa(g, page));
}

static void touch_plain(struct guest *g, const struct guest_command *command, struct guest_order *order)
{
	uint64_t page;

	if (command->order == GUEST_ORDER_SEQUENTIAL)
		touch_row(g, command->first, command->limit, command->write);
	else
		while (guest_order_next(order, &page))
			touch_page(g, command->first + page, command->write);
}

/* Pass after pass over the same pages. Return: accesses. */
static uint64_t touch_repeat(struct guest *g, const struct guest_command *command, const struct guest_order *order)
{
	uint64_t pass = 0;

	do {
		struct guest_order again = *order;

		touch_plain(g, command, &again);
	} while (++pass < command->repeat && !guest_stop_asked(g));
	return pass * command->limit;
}

static inline void touch_store(uint32_t *sample, uint64_t cycles)
{
	__atomic_store_n(sample, cycles < UINT32_MAX ? (uint32_t)cycles : UINT32_MAX, __ATOMIC_RELAXED);
}

/* Return: how many samples were stored. */
static uint64_t touch_timed(struct guest *g, const struct guest_command *command, struct guest_order *order,
			    uint32_t *sample, uint64_t room)
{
	uint64_t n = 0, page, begin, cycles;

	while (guest_order_next(order, &page)) {
		begin = touch_begin();
		touch_page(g, command->first + page, command->write);
		cycles = touch_end() - begin;
		if (n < room)
			touch_store(&sample[n++], cycles);
	}
	return n;
}

/* One end to the next. Return: how many samples were stored. */
static uint64_t touch_gaps(struct guest *g, const struct guest_command *command, struct guest_order *order,
			   uint32_t *sample, uint64_t room)
{
	uint64_t n = 0, page, last = touch_end(), now;

	while (guest_order_next(order, &page)) {
		touch_page(g, command->first + page, command->write);
		now = touch_end();
		if (n < room)
			touch_store(&sample[n++], now - last);
		last = now;
	}
	return n;
}

/* One end to the next, until there is another command: the longest of all. */
static void touch_longest(struct guest *g, const struct guest_command *command, struct guest_order *order,
			  uint64_t done)
{
	uint64_t longest = 0, page, last = touch_end(), now;

	while (shared_load(&g->vcpu->posted) == done + 1 && !guest_stop_asked(g)) {
		if (!guest_order_next(order, &page)) {
			guest_order_init(order, command->order, command->pages, command->stride, command->seed);
			continue;
		}
		touch_page(g, command->first + page, command->write);
		now = touch_end();
		longest = now - last > longest ? now - last : longest;
		last = now;
		shared_add(&g->vcpu->heartbeat, 1);
		guest_agent_poll(g);
	}
	shared_store(&g->vcpu->longest, longest);
}

/* What stands there instead of how long it took. Return: how many samples were stored. */
static uint64_t touch_values(struct guest *g, const struct guest_command *command, struct guest_order *order,
			     uint32_t *sample, uint64_t room)
{
	uint64_t n = 0, page, value;

	while (guest_order_next(order, &page)) {
		value = guest_read64(g, touch_gpa(g, command->first + page));
		if (n < room)
			__atomic_store_n(&sample[n++], (uint32_t)value, __ATOMIC_RELAXED);
	}
	return n;
}

/* The host may write the next command as soon as `done` grows, not before; still, read each field once. */
static void touch_command(struct guest *g, struct guest_command *command)
{
	const struct guest_command *posted = &g->vcpu->command;
	uint64_t all = guest_data_size(g) >> GUEST_PAGE_SHIFT;

	command->first = shared_load(&posted->first);
	command->pages = shared_load(&posted->pages);
	command->stride = shared_load(&posted->stride);
	command->seed = shared_load(&posted->seed);
	command->limit = shared_load(&posted->limit);
	command->order = shared_load(&posted->order);
	command->write = shared_load(&posted->write);
	command->timed = shared_load(&posted->timed);
	command->quit = shared_load(&posted->quit);
	command->repeat = shared_load(&posted->repeat);
	if (command->first > all)
		command->first = all;
	if (command->pages > all - command->first)
		command->pages = all - command->first;
	if (!command->limit || command->limit > command->pages)
		command->limit = command->pages;
}

static void touch_obey(struct guest *g, const struct guest_command *command, uint64_t done)
{
	uint32_t *sample = shared_at(g, g->shared->sample_offset);
	uint64_t room = sample ? g->shared->sample_count : 0, samples = 0, accesses = command->limit, start;
	struct guest_order order;

	if (command->pages) {
		guest_order_init(&order, command->order, command->pages, command->stride, command->seed);
		order.limit = command->limit;
		start = guest_cycles();
		shared_store(&g->vcpu->command_begun, start);
		if (command->timed == GUEST_SAMPLE_VALUE)
			samples = touch_values(g, command, &order, sample + g->id * room, room);
		else if (command->timed == GUEST_SAMPLE_GAP)
			samples = touch_gaps(g, command, &order, sample + g->id * room, room);
		else if (command->timed == GUEST_SAMPLE_LONGEST)
			touch_longest(g, command, &order, done);
		else if (command->timed)
			samples = touch_timed(g, command, &order, sample + g->id * room, room);
		else
			accesses = touch_repeat(g, command, &order);
		shared_store(&g->vcpu->command_cycles, guest_cycles() - start);
	} else {
		shared_store(&g->vcpu->command_cycles, 0);
	}
	shared_store(&g->vcpu->samples, samples);
	shared_add(command->write ? &g->vcpu->writes : &g->vcpu->accesses, accesses);
}

GUEST_MAIN(touch)
{
	struct guest_command command;
	uint64_t done = shared_load(&g->vcpu->done);

	(void)argc;
	(void)argv;
	if (!guest_tsc_khz(g)) {
		guest_printf(g, "touch: vcpu %u: there is no host to obey; this workload belongs to `tain bench`\n",
			     g->id);
		return 1;
	}
	guest_agent_start(g);
	while (!guest_stop_asked(g)) {
		if (shared_load(&g->vcpu->posted) == done) {
			guest_agent_poll(g);
			guest_pause(g);
			continue;
		}
		touch_command(g, &command);
		if (!command.quit)
			touch_obey(g, &command, done);
		shared_add(&g->vcpu->heartbeat, 1);
		shared_store(&g->vcpu->done, ++done);
		if (command.quit)
			return 0;
	}
	return 0;
}
