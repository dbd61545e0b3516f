/* SPDX-License-Identifier: MIT */
/*
 * A guest that a loader booted, instead of a VMM of tain: what the loader said, page
 * tables, the other processors, a serial console, the end. See guest/abi.h.
 */
#include "guest/rt/boot.h"
#include "guest/workload.h"

#define PVH_MAGIC 0x336ec578
#define MB2_TAG_END 0
#define MB2_TAG_CMDLINE 1
#define MB2_TAG_MEMORY 6
#define RAM 1 /* type of a piece of memory, to both */

#define LARGE_PAGE (2ul << 20)
#define GIB (1ul << 30)
#define TABLE_ENTRY 0x27ul
#define LARGE_ENTRY 0xe7ul
#define STRONG_ENTRY 0xfful /* the same, write-through and uncached */

#define APIC_GPA 0xfee00000ul
#define APIC_COMMAND (APIC_GPA + 0x300)
#define APIC_INIT_OTHERS 0xc4500u
#define APIC_START_OTHERS 0xc4600u

#define UART_STATUS (GUEST_PORT_TEXT + 5)
#define UART_ROOM 0x20u
#define UART_SENT 0x40u
#define PIC_MASK 0x21
#define PIC2_MASK 0xa1

struct pvh_info {
	uint32_t magic, version, flags, modules;
	uint64_t modlist, cmdline, rsdp;
	uint64_t memory; /* version 1 */
	uint32_t memory_entries;
};

/* PVH and multiboot2 agree about this one. */
struct boot_memory {
	uint64_t start, bytes;
	uint32_t type, spare;
};

struct mb2_tag {
	uint32_t type, bytes;
	uint32_t data[]; /* MEMORY: bytes of an entry, version, entries */
};

/* Lines of one vCPU leave whole. */
struct boot_line {
	uint32_t used;
	char text[252];
};

extern const char boot_page[], boot_page_end[];
extern uint64_t boot_tables;
uint64_t guest_boot_shared;
extern uint32_t guest_boot_up[GUEST_MAX_VCPUS]; /* set by each processor but the first; start.S */
uint32_t guest_boot_up[GUEST_MAX_VCPUS];

static struct boot_line lines[GUEST_MAX_VCPUS];
static uint32_t uart_lock;

/* SHARED of a guest that nobody gave one. */
static struct {
	struct guest_shared shared;
	struct guest_vcpu vcpu;
} own;

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ __volatile__("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ __volatile__("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

/* --- console and end, at CPL3 --------------------------------------------------------- */

/* Where there is no UART the bus floats, and all bits are set. */
static void uart_wait(uint8_t what)
{
	while (!(in8(UART_STATUS) & what))
		__builtin_ia32_pause();
}

static void line_flush(struct boot_line *line)
{
	while (__atomic_exchange_n(&uart_lock, 1, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
	for (uint32_t i = 0; i < line->used; i++) {
		uart_wait(UART_ROOM);
		out8(GUEST_PORT_TEXT, (uint8_t)line->text[i]);
	}
	line->used = 0;
	__atomic_store_n(&uart_lock, 0, __ATOMIC_RELEASE);
}

void guest_boot_text(struct guest *g, const char *text, uint64_t bytes)
{
	struct boot_line *line = &lines[g->id % GUEST_MAX_VCPUS];

	for (; bytes; bytes--, text++) {
		line->text[line->used++] = *text;
		if (*text == '\n' || line->used == sizeof(line->text))
			line_flush(line);
	}
}

/* The first code that is not 0. */
static uint32_t exit_code(const struct guest_shared *shared)
{
	const struct guest_vcpu *vcpu = (const void *)((const char *)shared + shared->vcpu_offset);
	uint32_t code = 0;

	for (uint32_t i = 0; i < shared->vcpus && !code; i++)
		code = (uint32_t)shared_load(&vcpu[i].exit_code);
	return code;
}

static void machine_off(uint32_t code)
{
	uart_wait(UART_SENT);
	__asm__ __volatile__("outl %0, %1" : : "a"(code), "Nd"((uint16_t)GUEST_PORT_EXIT) : "memory");
	for (const char *c = "Shutdown"; *c; c++)
		out8(GUEST_PORT_BOCHS, (uint8_t)*c);
}

void guest_boot_exit(struct guest *g, int code)
{
	struct guest_shared *shared = (void *)(uintptr_t)guest_boot_shared;

	line_flush(&lines[g->id % GUEST_MAX_VCPUS]);
	if (!g->vcpu) { /* SHARED is not to be understood */
		machine_off((uint32_t)code);
	} else {
		shared_store(&g->vcpu->exit_code, (uint64_t)(uint32_t)code);
		shared_store(&g->vcpu->ended, 1ul);
		if (__atomic_add_fetch(&shared->exited, 1, __ATOMIC_ACQ_REL) == shared->vcpus)
			machine_off(exit_code(shared));
	}
	for (;;)
		__asm__ __volatile__("int3" : : "D"(GUEST_HALT_MAGIC) : "memory");
}

/* 115200 8N1, no interrupts: emulators that keep a UART's time send nothing without. */
static void uart_init(void)
{
	static const uint8_t setup[][2] = { { 1, 0 }, { 3, 0x80 }, { 0, 1 }, { 1, 0 }, { 3, 3 }, { 2, 7 } };

	for (uint32_t i = 0; i < sizeof(setup) / sizeof(setup[0]); i++)
		out8(GUEST_PORT_TEXT + setup[i][0], setup[i][1]);
}

void guest_boot_clear(void)
{
	if (guest_boot_shared == (uintptr_t)&own)
		__builtin_memset((void *)(uintptr_t)own.shared.data_base, 0, own.shared.data_bytes);
}

/* --- the way up, at CPL0, on one processor ----------------------------------------------- */

/* Where CPL0 is emulated an instruction costs a microsecond: only what is used is mapped. */
static void map(uint64_t start, uint64_t end, uint64_t attributes)
{
	uint64_t *pml4 = (uint64_t *)GUEST_PGTABLE_GPA, *pdpt = pml4 + 512, *pd = pdpt + 512;

	for (uint64_t at = start & -LARGE_PAGE; at < end; at += LARGE_PAGE)
		pd[at / LARGE_PAGE] = at | attributes;
	for (uint64_t at = start & -GIB; at < end; at += GIB)
		pdpt[at / GIB] = (uint64_t)&pd[at / GIB * 512] | TABLE_ENTRY;
	pml4[0] = (uint64_t)pdpt | TABLE_ENTRY;
}

static void map_all(const struct guest_shared *shared)
{
	uint64_t end = shared->data_base + shared->data_bytes;
	uint64_t shared_end = (uint64_t)(uintptr_t)shared + shared->shared_bytes;
	uint64_t tables = 2 + (end > 4 * GIB ? end + GIB - 1 : 4 * GIB) / GIB;

	__builtin_memset((void *)GUEST_PGTABLE_GPA, 0, tables * GUEST_PAGE_SIZE);
	map(0, GUEST_IMAGE_END, LARGE_ENTRY);
	map(APIC_GPA, APIC_GPA + LARGE_PAGE, STRONG_ENTRY);
	map(GUEST_VIRTIO_GPA & -LARGE_PAGE, GUEST_VIRTIO_GPA + GUEST_PAGE_SIZE, STRONG_ENTRY);
	map((uint64_t)(uintptr_t)shared, shared_end, LARGE_ENTRY);
	map(shared->data_base, end, LARGE_ENTRY);
	boot_tables = GUEST_PGTABLE_GPA;
	__asm__ __volatile__("mov %0, %%cr3" : : "r"(GUEST_PGTABLE_GPA) : "memory");
}

/* An identity mapping is not all a loader gave: RAM must be there. */
static int is_ram(const struct boot_memory *memory, uint32_t entries, uint32_t stride, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < entries; i++, memory = (const void *)((const char *)memory + stride))
		if (memory->type == RAM && memory->start <= start && end - memory->start <= memory->bytes)
			return 1;
	return 0;
}

/* Whole 2 MiB pages behind LOW, in one piece with it. */
static uint64_t ram_behind_low(const struct boot_memory *memory, uint32_t entries, uint32_t stride)
{
	uint64_t end = GUEST_IMAGE_END;

	while (end < GIB && is_ram(memory, entries, stride, GUEST_IMAGE_END, end + LARGE_PAGE))
		end += LARGE_PAGE;
	return end - GUEST_IMAGE_END;
}

/* Words of the command line into arguments. */
static void copy_cmdline(struct guest_shared *shared, const char *cmdline)
{
	uint32_t used = 0;

	while (cmdline && *cmdline && shared->argc < GUEST_MAX_ARGS) {
		while (*cmdline == ' ')
			cmdline++;
		if (!*cmdline)
			return;
		shared->arg_offset[shared->argc++] = used;
		while (*cmdline && *cmdline != ' ' && used < GUEST_ARGS_BYTES - 1)
			shared->args[used++] = *cmdline++;
		shared->args[used++] = '\0';
		if (used == GUEST_ARGS_BYTES)
			return;
	}
}

static struct guest_shared *make_shared(const char *cmdline, uint64_t data_bytes)
{
	struct guest_shared *shared = &own.shared;

	shared->magic = GUEST_ABI_MAGIC;
	shared->version = GUEST_ABI_VERSION;
	shared->vcpus = 1;
	shared->shared_bytes = sizeof(own);
	shared->vcpu_offset = sizeof(own.shared);
	shared->data_base = GUEST_IMAGE_END;
	shared->data_bytes = data_bytes;
	copy_cmdline(shared, cmdline);
	return shared;
}

/* Interrupts that are lost are sent again: one that finds its processor running is ignored. */
static void start_others(uint32_t vcpus)
{
	volatile uint32_t *command = (volatile uint32_t *)APIC_COMMAND;

	if (vcpus < 2)
		return;
	__builtin_memcpy((void *)GUEST_BOOT_PAGE, boot_page, (uint64_t)(boot_page_end - boot_page));
	*command = APIC_INIT_OTHERS;
	for (uint32_t up = 1; up < vcpus;) {
		uint64_t since = guest_cycles();

		*command = APIC_START_OTHERS | GUEST_BOOT_PAGE / GUEST_PAGE_SIZE;
		while (guest_cycles() - since < 10000000)
			__builtin_ia32_pause();
		up = 1;
		for (uint32_t i = 1; i < vcpus; i++)
			up += __atomic_load_n(&guest_boot_up[i], __ATOMIC_RELAXED);
	}
}

/*
 * With less there would be no stack to say it from, later. The last of it may be firmware's tables, whatever the map
 * calls them: that is RAM too, and they have served. A map that was not given promises nothing.
 */
static void need_low(const struct boot_memory *memory, uint32_t entries, uint32_t stride)
{
	static const char text[] = "guest: 128 MiB of memory at least are needed\n";

	_Static_assert(GUEST_IMAGE_END == 128ul << 20, "the text says it");
	uint32_t i;

	for (i = 0; i < entries; i++, memory = (const void *)((const char *)memory + stride))
		if (memory->start < GUEST_IMAGE_END && GUEST_IMAGE_END - memory->start <= memory->bytes)
			return;
	if (!i)
		return;
	for (const char *c = text; *c; c++) {
		uart_wait(UART_ROOM);
		out8(GUEST_PORT_TEXT, (uint8_t)*c);
	}
	machine_off(1);
	for (;;)
		__asm__ __volatile__("cli; hlt" : : : "memory");
}

uint64_t guest_boot(uint32_t magic, uint32_t info)
{
	struct guest_shared *shared = (struct guest_shared *)GUEST_SHARED_GPA;
	const struct pvh_info *pvh = (void *)(uintptr_t)info;
	const struct boot_memory *memory = NULL;
	uint32_t entries = 0, stride = sizeof(*memory);
	const char *cmdline = NULL;

	if (magic == BOOT_MB2_MAGIC) {
		const struct mb2_tag *tag = (void *)(uintptr_t)(info + 8);

		for (; tag->type != MB2_TAG_END; tag = (void *)((uintptr_t)tag + ((tag->bytes + 7) & -8u))) {
			if (tag->type == MB2_TAG_CMDLINE)
				cmdline = (const char *)tag->data;
			if (tag->type != MB2_TAG_MEMORY)
				continue;
			stride = tag->data[0];
			memory = (const void *)(tag->data + 2);
			entries = (tag->bytes - 16) / stride;
		}
	} else if (pvh->magic == PVH_MAGIC) {
		cmdline = (const char *)(uintptr_t)pvh->cmdline;
		memory = pvh->version ? (const void *)(uintptr_t)pvh->memory : NULL;
		entries = memory ? pvh->memory_entries : 0;
	}
	uart_init();
	need_low(memory, entries, stride);
	if (!is_ram(memory, entries, stride, GUEST_SHARED_GPA, GUEST_SHARED_GPA + sizeof(*shared)) ||
	    shared->magic != GUEST_ABI_MAGIC)
		shared = make_shared(cmdline, ram_behind_low(memory, entries, stride));
	/* CPL3 runs with interrupts on, and firmware leaves a timer that ticks. */
	out8(PIC_MASK, 0xff);
	out8(PIC2_MASK, 0xff);
	map_all(shared); /* the tables may overwrite what the loader left: it has been read */
	guest_boot_shared = (uint64_t)(uintptr_t)shared;
	start_others(shared->vcpus);
	return guest_boot_shared;
}
