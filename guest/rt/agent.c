/* SPDX-License-Identifier: MIT */
/*
 * What an operating system's drivers do for the machine's owner: balloon and memory that
 * is plugged in and out. See struct guest_agent. On vCPU 0, between two accesses.
 */
#include "guest/rt/boot.h"
#include "guest/workload.h"

#define LARGE_PAGE (2ul << 20)
#define GIB (1ul << 30)
#define TABLE_ENTRY 0x27ul
#define LARGE_ENTRY 0xe7ul

/* ACPI memory hotplug of QEMU's pc and q35, without ACPI: the registers that its methods use. */
#define SLOT_PORT 0xa00 /* write: selects; read: address, 4 bytes a port */
#define SIZE_PORT 0xa08
#define EVENT_PORT 0xa14
#define SLOT_ENABLED 0x1
#define SLOT_INSERTED 0x2
#define SLOT_REMOVING 0x4
#define SLOT_EJECT 0x8

static struct {
	uint64_t first, pages; /* what the balloon holds */
} given;

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ __volatile__("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint64_t in64(uint16_t port)
{
	uint32_t low, high;

	__asm__ __volatile__("inl %1, %0" : "=a"(low) : "d"(port) : "memory");
	__asm__ __volatile__("inl %1, %0" : "=a"(high) : "d"((uint16_t)(port + 4)) : "memory");
	return (uint64_t)high << 32 | low;
}

static inline uint8_t slot_events(void)
{
	uint8_t value;

	__asm__ __volatile__("inb %1, %0" : "=a"(value) : "d"((uint16_t)EVENT_PORT) : "memory");
	return value;
}

static inline void slot_write(uint8_t value)
{
	__asm__ __volatile__("outb %0, %1" : : "a"(value), "d"((uint16_t)EVENT_PORT) : "memory");
}

/* --- balloon -------------------------------------------------------------------------- */

/* The host posts before libvirt tells the device, or after. */
static enum guest_agent_result obey_balloon(struct guest *g, uint64_t first, uint64_t pages, uint32_t target)
{
	uint64_t base = guest_data_base(g);

	if (!guest_balloon_find())
		return GUEST_AGENT_NO_DEVICE;
	while (guest_balloon_target() != target) {
		if (guest_stop_asked(g))
			return GUEST_AGENT_BAD_DEVICE;
		guest_pause(g);
	}
	guest_balloon_move(g, 0, base + given.first * GUEST_PAGE_SIZE, given.pages);
	given.first = first;
	given.pages = pages;
	guest_balloon_move(g, 1, base + first * GUEST_PAGE_SIZE, pages);
	guest_balloon_holds((uint32_t)pages);
	return GUEST_AGENT_OK;
}

/* --- memory that comes and goes ------------------------------------------------------------ */

/* The tables are in LOW, where CPL3 writes too. Nothing that was mapped changes, so nothing is flushed. */
static void map_more(uint64_t start, uint64_t end)
{
	uint64_t *pdpt = (uint64_t *)(GUEST_PGTABLE_GPA + GUEST_PAGE_SIZE), *pd = pdpt + 512;

	for (uint64_t at = start & -LARGE_PAGE; at < end; at += LARGE_PAGE) {
		if (!pdpt[at / GIB]) {
			__builtin_memset(&pd[at / GIB * 512], 0, GUEST_PAGE_SIZE);
			__atomic_store_n(&pdpt[at / GIB], (uint64_t)&pd[at / GIB * 512] | TABLE_ENTRY,
					 __ATOMIC_SEQ_CST);
		}
		__atomic_store_n(&pd[at / LARGE_PAGE], at | LARGE_ENTRY, __ATOMIC_SEQ_CST);
	}
}

static uint64_t word_of(uint64_t gpa, uint64_t turn)
{
	return (gpa ^ turn) * 0x9e3779b97f4a7c15ull | 1;
}

/* It is new: zeros. Then it holds what is written. */
static enum guest_agent_result try_memory(uint64_t start, uint64_t bytes, uint64_t turn)
{
	for (uint64_t at = start; at < start + bytes; at += GUEST_PAGE_SIZE) {
		if (__atomic_load_n((uint64_t *)at, __ATOMIC_RELAXED))
			return GUEST_AGENT_BAD_MEMORY;
		__atomic_store_n((uint64_t *)at, word_of(at, turn), __ATOMIC_RELAXED);
	}
	for (uint64_t at = start; at < start + bytes; at += GUEST_PAGE_SIZE)
		if (__atomic_load_n((uint64_t *)at, __ATOMIC_RELAXED) != word_of(at, turn))
			return GUEST_AGENT_BAD_MEMORY;
	return GUEST_AGENT_OK;
}

/* A port that nobody has reads as ones. */
static int slot_is(uint8_t what)
{
	uint8_t events = slot_events();

	return events != 0xff && (events & what) == what;
}

static enum guest_agent_result obey_plug(uint64_t turn)
{
	uint64_t start, bytes;

	out32(SLOT_PORT, 0);
	if (slot_events() == 0xff)
		return GUEST_AGENT_NO_DEVICE;
	if (!slot_is(SLOT_ENABLED | SLOT_INSERTED))
		return GUEST_AGENT_BAD_DEVICE;
	start = in64(SLOT_PORT);
	bytes = in64(SIZE_PORT);
	slot_write(SLOT_INSERTED); /* seen */
	if (!bytes || start % LARGE_PAGE || bytes % GUEST_PAGE_SIZE || start > GUEST_BOOT_LIMIT - bytes)
		return GUEST_AGENT_BAD_DEVICE;
	map_more(start, start + bytes);
	return try_memory(start, bytes, turn);
}

static enum guest_agent_result obey_unplug(struct guest *g)
{
	out32(SLOT_PORT, 0);
	if (!slot_is(SLOT_ENABLED))
		return GUEST_AGENT_BAD_DEVICE;
	while (!slot_is(SLOT_REMOVING)) {
		if (guest_stop_asked(g))
			return GUEST_AGENT_BAD_DEVICE;
		guest_pause(g);
	}
	slot_write(SLOT_REMOVING);
	slot_write(SLOT_EJECT);
	return GUEST_AGENT_OK;
}

/* --- requests ------------------------------------------------------------------------------- */

void guest_agent_start(struct guest *g)
{
	if (!g->id && guest_boot_shared)
		shared_store(&g->shared->agent.ready, 1u);
}

/* Each field once: the host may change it at any moment. */
void guest_agent_obey(struct guest *g)
{
	struct guest_agent *a = &g->shared->agent;
	uint64_t all = guest_data_size(g) >> GUEST_PAGE_SHIFT, done = a->done + 1;
	uint64_t first = shared_load(&a->first), pages = shared_load(&a->pages);
	enum guest_agent_result result = GUEST_AGENT_BAD_DEVICE;

	first = first < all ? first : all;
	pages = pages < all - first ? pages : all - first;
	if (shared_load(&a->what) == GUEST_AGENT_BALLOON)
		result = obey_balloon(g, first, pages, shared_load(&a->target));
	else if (shared_load(&a->what) == GUEST_AGENT_PLUG)
		result = obey_plug(done);
	else if (shared_load(&a->what) == GUEST_AGENT_UNPLUG)
		result = obey_unplug(g);
	shared_store(&a->result, (uint32_t)result);
	shared_store(&a->done, done);
}
