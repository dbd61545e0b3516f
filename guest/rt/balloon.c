/* SPDX-License-Identifier: MIT */
/*
 * A virtio balloon, as QEMU has it: on microvm a legacy virtio-mmio device, on pc and q35
 * the legacy half of a PCI device on bus 0. At CPL3, and no interrupts: one request at a
 * time, whose end is waited for.
 */
#include "guest/rt/boot.h"
#include "guest/workload.h"

#define MMIO_BYTES 0x200
#define MMIO_DEVICES 24
#define MMIO_MAGIC 0x74726976 /* "virt" */
#define MMIO_LEGACY 1
#define MMIO_BALLOON 5

#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define PCI_SLOTS 32
#define PCI_BALLOON 0x10021af4u
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO_MASTER 0x5
#define PCI_BAR0 0x10

#define STATUS_GOING 7 /* acknowledged, a driver, which is ready */
#define QUEUE_MAX 256
#define RING_BYTES (4 * GUEST_PAGE_SIZE)
#define NO_INTERRUPT 1
#define PAGES_MAX 1024u /* of one request */

/* What the driver needs of a device's registers: offsets in its window, or in its ports. */
static const struct registers {
	uint16_t features, guest_features, select, size, pfn, notify, status, config;
} mmio_registers = { 0x10, 0x20, 0x30, 0x34, 0x40, 0x50, 0x70, 0x100 }, pci_registers = { 0, 4, 14, 12, 8, 16, 18, 20 };

static struct {
	const struct registers *at; /* NULL: not found yet */
	uint64_t base;		    /* address of the window, or first port */
	int mmio;
	uint32_t size; /* of both queues */
	uint16_t used[2];
} balloon;

struct descriptor {
	uint64_t gpa;
	uint32_t bytes;
	uint16_t flags, next;
};

/* Inflate, deflate. The device finds the three parts by the queue's size. */
static _Alignas(GUEST_PAGE_SIZE) uint8_t ring[2][RING_BYTES];
static uint32_t numbers[PAGES_MAX];

static inline uint32_t port_in(uint16_t port, int bits)
{
	uint32_t value;

	if (bits == 32)
		__asm__ __volatile__("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	else
		__asm__ __volatile__("xor %%eax, %%eax; inw %1, %w0" : "=&a"(value) : "d"(port) : "memory", "cc");
	return value;
}

static inline void port_out(uint16_t port, int bits, uint32_t value)
{
	if (bits == 32)
		__asm__ __volatile__("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
	else if (bits == 16)
		__asm__ __volatile__("outw %w0, %1" : : "a"(value), "Nd"(port) : "memory");
	else
		__asm__ __volatile__("outb %b0, %1" : : "a"(value), "Nd"(port) : "memory");
}

/* A window has 32-bit registers; ports are as wide as the register. */
static uint32_t get(uint16_t offset, int bits)
{
	if (balloon.mmio)
		return __atomic_load_n((uint32_t *)(balloon.base + offset), __ATOMIC_SEQ_CST);
	return port_in((uint16_t)(balloon.base + offset), bits);
}

static void put(uint16_t offset, int bits, uint32_t value)
{
	if (balloon.mmio)
		__atomic_store_n((uint32_t *)(balloon.base + offset), value, __ATOMIC_SEQ_CST);
	else
		port_out((uint16_t)(balloon.base + offset), bits, value);
}

static int find_mmio(void)
{
	for (uint64_t base = GUEST_VIRTIO_GPA; base < GUEST_VIRTIO_GPA + MMIO_DEVICES * MMIO_BYTES;
	     base += MMIO_BYTES) {
		const volatile uint32_t *word = (const volatile uint32_t *)base;

		if (word[0] != MMIO_MAGIC)
			return 0;
		if (word[1] != MMIO_LEGACY || word[2] != MMIO_BALLOON)
			continue;
		balloon.base = base;
		balloon.mmio = 1;
		balloon.at = &mmio_registers;
		return 1;
	}
	return 0;
}

static uint32_t pci_get(uint32_t slot, uint32_t at)
{
	port_out(PCI_ADDRESS, 32, 1u << 31 | slot << 11 | at);
	return port_in(PCI_DATA, 32);
}

/* Firmware has given it its ports. */
static int find_pci(void)
{
	for (uint32_t slot = 0; slot < PCI_SLOTS; slot++) {
		uint32_t bar;

		if (pci_get(slot, 0) != PCI_BALLOON)
			continue;
		bar = pci_get(slot, PCI_BAR0);
		if (!(bar & 1) || !(bar & ~3u))
			return 0;
		port_out(PCI_ADDRESS, 32, 1u << 31 | slot << 11 | PCI_COMMAND);
		port_out(PCI_DATA, 16, PCI_COMMAND_IO_MASTER);
		balloon.base = bar & ~3u;
		balloon.at = &pci_registers;
		return 1;
	}
	return 0;
}

static uint64_t used_offset(void)
{
	uint64_t end = balloon.size * sizeof(struct descriptor) + 6 + balloon.size * 2ul;

	return (end + GUEST_PAGE_SIZE - 1) & -GUEST_PAGE_SIZE;
}

static int start_queue(uint32_t queue)
{
	uint16_t *avail;

	put(balloon.at->select, 16, queue);
	balloon.size = get(balloon.at->size, 16);
	if (!balloon.size)
		return 0;
	if (balloon.mmio) {
		balloon.size = balloon.size < QUEUE_MAX ? balloon.size : QUEUE_MAX;
		put(0x38, 32, balloon.size);
		put(0x3c, 32, GUEST_PAGE_SIZE);
	}
	if (balloon.size > QUEUE_MAX) /* a PCI device does not ask */
		return 0;
	avail = (uint16_t *)(ring[queue] + balloon.size * sizeof(struct descriptor));
	avail[0] = NO_INTERRUPT;
	put(balloon.at->pfn, 32, (uint32_t)((uintptr_t)ring[queue] >> GUEST_PAGE_SHIFT));
	return 1;
}

int guest_balloon_find(void)
{
	if (balloon.at)
		return 1;
	if (!find_mmio() && !find_pci())
		return 0;
	put(balloon.at->status, 8, 0);
	if (balloon.mmio)
		put(0x28, 32, GUEST_PAGE_SIZE);
	put(balloon.at->guest_features, 32, 0);
	if (!start_queue(0) || !start_queue(1)) {
		balloon.at = NULL;
		return 0;
	}
	put(balloon.at->status, 8, STATUS_GOING);
	return 1;
}

uint32_t guest_balloon_target(void)
{
	return get(balloon.at->config, 32);
}

void guest_balloon_holds(uint32_t pages)
{
	put(balloon.at->config + 4, 32, pages);
}

/* One descriptor, number 0; the device has read the numbers, and acted, when it is used. */
static int send(struct guest *g, uint32_t queue, uint32_t pages)
{
	struct descriptor *d = (struct descriptor *)ring[queue];
	uint16_t *avail = (uint16_t *)(ring[queue] + balloon.size * sizeof(*d));
	const uint16_t *used = (const uint16_t *)(ring[queue] + used_offset());

	*d = (struct descriptor){ .gpa = (uintptr_t)numbers, .bytes = pages * 4 };
	avail[2 + balloon.used[queue] % balloon.size] = 0;
	__atomic_store_n(&avail[1], ++balloon.used[queue], __ATOMIC_SEQ_CST);
	put(balloon.at->notify, 16, queue);
	while (__atomic_load_n(&used[1], __ATOMIC_ACQUIRE) != balloon.used[queue]) {
		if (guest_stop_asked(g))
			return 0;
		guest_pause(g);
	}
	return 1;
}

void guest_balloon_move(struct guest *g, int give, uint64_t gpa, uint64_t pages)
{
	while (pages) {
		uint32_t n = pages < PAGES_MAX ? (uint32_t)pages : PAGES_MAX;

		for (uint32_t i = 0; i < n; i++)
			numbers[i] = (uint32_t)(gpa / GUEST_PAGE_SIZE + i);
		if (!send(g, give ? 0 : 1, n))
			return;
		gpa += n * GUEST_PAGE_SIZE;
		pages -= n;
	}
}
