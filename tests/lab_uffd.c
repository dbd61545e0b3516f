/* SPDX-License-Identifier: MIT */
/* userfaultfd: each mode, windows, pages that are there, ranges that are gone, and a guest's faults. */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lab/bench/uffd.h"
#include "lab/machine/touch.h"
#include "lab/stress/stress.h"
#include "lab/uffd/uffd.h"
#include "lib/atomic.h"
#include "lib/race.h"
#include "lib/time.h"
#include "tests/lab_suites.h"

#define PAGES 64ull
#define BYTES (PAGES * PAGE_SIZE)

struct area {
	int fd;
	char *memory;
	char *other; /* the same memory, not registered */
	char *source;
	struct uffd uffd;
};

static bool area_open(struct area *a, enum uffd_mode mode, enum uffd_placement placement, u32 window)
{
	struct uffd_config c = { .mode = mode, .placement = placement, .cpu = -1, .window = window, .bytes = BYTES };
	struct err err = { "" };

	if (uffd_probe(mode, placement, &err)) {
		test_skip("%s", err.text);
		return false;
	}
	a->fd = memfd_create("lab_uffd", MFD_CLOEXEC);
	CHECK_EQ(ftruncate(a->fd, BYTES), 0);
	a->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	a->other = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	a->source = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (u64 page = 0; page < PAGES; page++)
		memset(a->source + page * PAGE_SIZE, (int)page + 1, PAGE_SIZE);
	c.start = (hva_t)(uintptr_t)a->memory;
	c.source = mode == UFFD_MISSING ? a->source : mode == UFFD_MINOR ? a->other : NULL;
	CHECK_MSG(!uffd_open(&a->uffd, &c, &err), "%s", err.text);
	return a->uffd.fd >= 0 && CHECK_EQ(uffd_register(&a->uffd, c.start, BYTES), 0);
}

static void area_close(struct area *a)
{
	uffd_close(&a->uffd);
	CHECK_EQ(uffd_counted(&a->uffd, UFFD_FAILED), 0);
	uffd_destroy(&a->uffd);
	munmap(a->memory, BYTES);
	munmap(a->other, BYTES);
	munmap(a->source, BYTES);
	close(a->fd);
}

static u8 at(const char *memory, u64 page)
{
	return (u8)READ_ONCE(memory[page * PAGE_SIZE + 77]);
}

static void missing_copies(void)
{
	struct area a = { 0 };

	if (!area_open(&a, UFFD_MISSING, UFFD_THREAD, 1))
		return;
	for (u64 page = 0; page < PAGES; page++)
		CHECK_EQ(at(a.memory, page), page + 1);
	uffd_close(&a.uffd); /* the handler counts after it has woken */
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_FAULTS), PAGES);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_PAGES), PAGES);
	area_close(&a);
}

static void window_brings_neighbours(void)
{
	struct area a = { 0 };

	if (!area_open(&a, UFFD_MISSING, UFFD_THREAD, 16))
		return;
	a.other[2 * PAGE_SIZE + 77] = 99; /* in the page cache: EEXIST in the middle of the first window */
	for (u64 page = 0; page < PAGES; page++)
		CHECK_EQ(at(a.memory, page), page == 2 ? 99 : page + 1);
	uffd_close(&a.uffd);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_FAULTS), PAGES / 16);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_PAGES), PAGES - 1);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_EXISTED), 1);
	area_close(&a);
}

static void minor_continues(void)
{
	struct area a = { 0 };

	if (!area_open(&a, UFFD_MINOR, UFFD_THREAD, 4))
		return;
	for (u64 page = 0; page < PAGES; page++)
		a.other[page * PAGE_SIZE + 77] = (char)(page + 5);
	for (u64 page = 0; page < PAGES; page++)
		CHECK_EQ(at(a.memory, page), page + 5);
	uffd_close(&a.uffd);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_PAGES), PAGES);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_FAULTS), PAGES / 4);
	area_close(&a);
}

static void wp_reports_writes(void)
{
	struct area a = { 0 };
	struct err err = { "" };
	struct uffd_config c = { .mode = UFFD_WP, .cpu = -1, .window = 1, .bytes = BYTES };
	char *p;

	if (uffd_probe(UFFD_WP, UFFD_THREAD, &err)) {
		test_skip("%s", err.text);
		return;
	}
	p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	c.start = (hva_t)(uintptr_t)p;
	REQUIRE_EQ(uffd_open(&a.uffd, &c, &err), 0);
	CHECK_EQ(uffd_register(&a.uffd, c.start, BYTES), 0);
	CHECK_EQ(uffd_protect(&a.uffd, c.start, BYTES), 0);
	for (u64 page = 0; page < PAGES; page++)
		CHECK_EQ(at(p, page), 0); /* reads are no news */
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_FAULTS), 0);
	for (u64 page = 0; page < PAGES; page += 2)
		WRITE_ONCE(p[page * PAGE_SIZE + 77], 1);
	uffd_close(&a.uffd);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_FAULTS), PAGES / 2);
	uffd_destroy(&a.uffd);
	munmap(p, BYTES);
}

/* What is gone, or was never registered, is an answer and not a hang. */
static void gone_is_told(void)
{
	struct area a = { 0 };

	if (!area_open(&a, UFFD_MISSING, UFFD_INLINE, 8))
		return;
	CHECK_EQ(uffd_resolve(&a.uffd, a.uffd.config.start - 1), -ENOENT);
	CHECK_EQ(uffd_resolve(&a.uffd, a.uffd.config.start + BYTES), -ENOENT);
	munmap(a.memory + 4 * PAGE_SIZE, 4 * PAGE_SIZE);
	CHECK_EQ(uffd_resolve(&a.uffd, a.uffd.config.start + 5 * PAGE_SIZE), -ENOENT);
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_PAGES), 0);
	CHECK_EQ(uffd_resolve(&a.uffd, a.uffd.config.start + 3 * PAGE_SIZE), 0); /* its window has a hole: one page */
	CHECK_EQ(uffd_counted(&a.uffd, UFFD_PAGES), 1);
	CHECK_EQ(at(a.memory, 3), 4);
	area_close(&a);
}

static void open_refuses(void)
{
	struct uffd_config c = { .mode = UFFD_MISSING, .window = 3, .bytes = BYTES };
	struct err err = { "" };
	struct uffd u;

	CHECK_EQ(uffd_open(&u, &c, &err), -EINVAL);
	CHECK_STR(err.text, "a window of 3 pages; a power of two is possible");
	uffd_close(&u);
	uffd_destroy(&u);
}

struct blocked {
	struct area area;
	u32 seen;
};

static void read_page(void *arg)
{
	struct blocked *b = arg;

	WRITE_ONCE(b->seen, at(b->area.memory, 0) + 1000u);
}

/* A thread that waits for a handler that does not answer goes on when the descriptor is closed. */
static void close_frees_blocked(void)
{
	struct blocked b = { 0 };
	struct thread thread;

	if (!area_open(&b.area, UFFD_MISSING, UFFD_THREAD, 1))
		return;
	write(b.area.uffd.stop_fd, &(u64){ 1 }, 8); /* the handler leaves */
	thread_join(&b.area.uffd.thread);
	b.area.uffd.thread_runs = false;
	REQUIRE_EQ(thread_create(&thread, "blocked", -1, read_page, &b), 0);
	thread_sleep_ns(2 * NSEC_PER_MSEC);
	CHECK_EQ(READ_ONCE(b.seen), 0);
	uffd_close(&b.area.uffd);
	thread_join(&thread);
	CHECK_EQ(READ_ONCE(b.seen), 1000);
	area_close(&b.area);
}

/*
 * A fault that was read is waited for, or it would be resolved in the range's next registration:
 *
 *   reader                handler                     here
 *   fault                 busy; read
 *                                                     unregister
 *   goes on                                           is it busy? then uffd_quiesce() waits
 *                         resolve: ENOENT; not busy   uffd_quiesce()
 */
static void what_was_read_is_waited_for(void)
{
#if CHECKING
	struct blocked b = { .seen = 0 };
	struct race_gate gate;
	struct thread thread;

	if (!area_open(&b.area, UFFD_MISSING, UFFD_THREAD, 1))
		return;
	race_arm(&gate, "uffd:read", 1);
	REQUIRE_EQ(thread_create(&thread, "reader", -1, read_page, &b), 0);
	race_wait(&gate);
	CHECK_EQ(uffd_unregister(&b.area.uffd, b.area.uffd.config.start, BYTES), 0);
	thread_join(&thread);
	CHECK_EQ(READ_ONCE(b.area.uffd.busy), 1);
	race_release(&gate);
	uffd_quiesce(&b.area.uffd);
	race_disarm(&gate);
	CHECK_EQ(uffd_counted(&b.area.uffd, UFFD_GONE), 1);
	CHECK_EQ(READ_ONCE(b.seen), 1000);
	area_close(&b.area);
#else
	test_skip("needs a checking build");
#endif
}

/* --- under a guest ------------------------------------------------------------------------ */

static struct uffd guest_uffd;
static struct uffd *guest_resolver; /* released when open */

static bool resolve_inline(u32 vcpu, u64 off, void *arg)
{
	struct uffd *u = smp_load_acquire(&guest_resolver); /* pairs with the release in guest() */

	return u && !uffd_resolve(u, u->config.start + off);
}

static void guest(enum uffd_placement placement, u32 window)
{
	struct machine_config config = { .engine = engine_find("kvm"), .vcpus = 1, .bytes = BYTES };
	struct uffd_config c = { .placement = placement, .cpu = -1, .window = window, .bytes = BYTES };
	struct guest_command all = { .pages = ~0ull, .write = 1 };
	struct err err = { "" };
	struct touch t;

	if (config.engine->probe(&err) || uffd_probe(UFFD_MISSING, placement, &err)) {
		test_skip("%s", err.text);
		return;
	}
	if (placement == UFFD_INLINE)
		config.fault = resolve_inline;
	REQUIRE_EQ(touch_start(&t, &config, NULL, &err), 0);
	c.start = t.machine.host.data;
	REQUIRE_EQ(uffd_open(&guest_uffd, &c, &err), 0);
	CHECK_EQ(uffd_register(&guest_uffd, c.start, BYTES), 0);
	smp_store_release(&guest_resolver, &guest_uffd);
	CHECK_MSG(!touch_run(&t, &all, NULL, NULL, NULL, &err), "%s", err.text);
	CHECK_EQ(touch_end(&t, &err), 0);
	guest_resolver = NULL;
	uffd_close(&guest_uffd);
	CHECK_EQ(uffd_counted(&guest_uffd, UFFD_PAGES), PAGES);
	CHECK_GE(uffd_counted(&guest_uffd, UFFD_FAULTS), PAGES / window);
	uffd_destroy(&guest_uffd);
}

static void guest_with_thread(void)
{
	guest(UFFD_THREAD, 1);
}

static void guest_resolves_inline(void)
{
	guest(UFFD_INLINE, 16);
}

/* Tries in vain are faults of the second MMU; each page is resolved once, all the same. */
static void guest_tries_in_vain(void)
{
	struct bench_uffd_config config = {
		.machine = { .engine = engine_find("kvm"), .vcpus = 1, .bytes = BYTES },
		.mode = UFFD_MISSING,
		.placement = BENCH_VCPU,
		.window = 1,
		.untimed = true,
		.in_vain = 8,
		.passes = 1,
	};
	struct bench_uffd_result r;
	struct err err = { "" };
	int ret;

	if (config.machine.engine->probe(&err)) {
		test_skip("%s", err.text);
		return;
	}
	ret = bench_uffd_run(&config, &r, &err);
	if (ret == -EPERM || ret == -EOPNOTSUPP)
		test_skip("%s", err.text);
	else if (CHECK_MSG(!ret, "%s", err.text)) {
		CHECK_EQ(r.row.accesses, PAGES);
		CHECK_GE(r.row.faults, PAGES);
		if (r.mmu_faults) /* else nobody counts them */
			CHECK_GE(r.mmu_faults, PAGES * (8 + 1));
	}
	bench_uffd_destroy(&r);
}

/* A vCPU blocked in a fault that nobody answers leaves when it is told to. */
static void kick_frees_vcpu(void)
{
	struct machine_config config = { .engine = engine_find("kvm"), .vcpus = 1, .bytes = BYTES };
	struct uffd_config c = { .placement = UFFD_THREAD, .cpu = -1, .window = 1, .bytes = BYTES };
	struct guest_command all = { .pages = ~0ull, .write = 1 };
	struct err err = { "" };
	u32 stop = 1;
	struct touch t;

	if (config.engine->probe(&err) || uffd_probe(UFFD_MISSING, UFFD_THREAD, &err)) {
		test_skip("%s", err.text);
		return;
	}
	REQUIRE_EQ(touch_start(&t, &config, &stop, &err), 0);
	c.start = t.machine.host.data;
	REQUIRE_EQ(uffd_open(&guest_uffd, &c, &err), 0);
	CHECK_EQ(uffd_register(&guest_uffd, c.start, BYTES), 0);
	write(guest_uffd.stop_fd, &(u64){ 1 }, 8); /* the handler leaves */
	thread_join(&guest_uffd.thread);
	guest_uffd.thread_runs = false;
	CHECK_EQ(touch_run(&t, &all, NULL, NULL, NULL, &err), -EINTR);
	thread_sleep_ns(5 * NSEC_PER_MSEC);
	CHECK_MSG(!touch_end(&t, &err), "%s", err.text);
	uffd_close(&guest_uffd);
	uffd_destroy(&guest_uffd);
}

#if CHECKING
struct inline_run {
	struct stress_config config;
	struct stress_result result;
	struct err err;
	int ret;
};

static void run_inline(void *arg)
{
	struct inline_run *run = arg;

	run->ret = stress_run(&run->config, &run->result, &run->err);
}
#endif

/*
 * A vCPU that resolves its faults itself is waited for, from its look whether there is somebody to ask:
 *
 *   vCPU                        step
 *   inside; loads active
 *                               unregisters; is the vCPU inside? then it waits
 *   resolves: ENOENT
 *                               goes on
 */
static void vcpu_that_resolves_is_waited_for(void)
{
#if CHECKING
	static const struct plan_step step = { .op = PLAN_UFFD_MINOR, .pages = PAGES, .hold_ns = 2 * NSEC_PER_MSEC };
	struct inline_run run = { .ret = 0 };
	struct race_gate in, left;
	struct thread thread;

	if (engine_find("kvm")->probe(&run.err) || uffd_probe(UFFD_MINOR, UFFD_INLINE, &run.err)) {
		test_skip("%s", run.err.text);
		return;
	}
	stress_config_init(&run.config, engine_find("kvm"));
	run.config.machine.backing = HOST_MEMFD;
	run.config.machine.bytes = BYTES;
	run.config.uffd = UFFD_INLINE;
	run.config.list = &step;
	run.config.list_nr = 1;
	run.config.repeat = 0;
	run.config.steps = 500;
	race_arm(&in, "uffd:inline", 1);
	REQUIRE_EQ(thread_create(&thread, "stress", -1, run_inline, &run), 0);
	race_wait(&in);
	race_arm(&left, "uffd:left", 1);
	thread_sleep_ns(50 * NSEC_PER_MSEC); /* too short finds nothing, and blames nobody */
	CHECK(!race_held(&left));
	race_release(&in);
	race_wait(&left);
	race_disarm(&left);
	race_disarm(&in);
	thread_join(&thread);
	CHECK_MSG(!run.ret, "%s", run.err.text);
	CHECK_EQ(run.result.log.total, 0);
	violation_log_destroy(&run.result.log);
#else
	test_skip("needs a checking build");
#endif
}

const struct test_case lab_uffd_tests[] = {
	TEST(missing_copies),
	TEST(window_brings_neighbours),
	TEST(minor_continues),
	TEST(wp_reports_writes),
	TEST(gone_is_told),
	TEST(open_refuses),
	TEST(close_frees_blocked),
	TEST(guest_with_thread),
	TEST(guest_resolves_inline),
	TEST(guest_tries_in_vain),
	TEST(kick_frees_vcpu),
	TEST(what_was_read_is_waited_for),
	TEST(vcpu_that_resolves_is_waited_for),
	TEST_END,
};
