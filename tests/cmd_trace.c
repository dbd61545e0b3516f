/* SPDX-License-Identifier: MIT */
/*
 * tain trace. This process is the VMM: its guest touches so many pages, KVM counts the
 * faults (KVM_GET_STATS_FD), and the trace must have seen just these.
 */
#include "lab/machine/machine.h" /* before <fcntl.h>, which calls something else LOCK_READ */

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "lib/thread.h"
#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#define PAGES 1024ull
#define START_NS (30 * NSEC_PER_SEC)

static char own_pid[16];

static const char *pid_text(int pid)
{
	snprintf(own_pid, sizeof(own_pid), "%d", pid);
	return own_pid;
}

/* tracefs, on a mount that hangs nowhere. Return: a descriptor of its instances; -1: skipped. */
static int instances_or_skip(void)
{
	int fs = fsopen("tracefs", 0), mount = -1, dir;

	if (fs >= 0 && !fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mount = fsmount(fs, 0, 0);
	if (mount < 0)
		test_skip("tracefs: %s", strerror(errno));
	if (fs >= 0)
		close(fs);
	if (mount < 0)
		return -1;
	dir = openat(mount, "instances", O_RDONLY | O_DIRECTORY);
	close(mount);
	if (dir < 0)
		test_skip("tracefs has no instances: %s", strerror(errno));
	return dir;
}

/* Instances of process @pid. */
static u32 instances_of(int dir, int pid)
{
	char prefix[32];
	struct dirent *d;
	u32 n = 0;
	DIR *list = fdopendir(dup(dir));

	snprintf(prefix, sizeof(prefix), "tain-%d-", pid);
	rewinddir(list);
	while (list && (d = readdir(list)))
		n += !strncmp(d->d_name, prefix, strlen(prefix));
	if (list)
		closedir(list);
	return n;
}

static bool trace_or_skip(void)
{
	int dir;

	if (!kvm_or_skip())
		return false;
	dir = instances_or_skip();
	if (dir >= 0)
		close(dir);
	return dir >= 0;
}

/* A machine in this process whose guest writes each page once, when it is started. */
static bool make_machine(struct machine *m)
{
	static char passes[] = "passes=1", write[] = "write=1";
	static char *const argv[] = { passes, write };
	struct machine_config config = {
		.engine = engine_find("kvm"),
		.image = { .name = "stride" },
		.argc = 2,
		.argv = argv,
		.vcpus = 1,
		.bytes = PAGES * PAGE_SIZE,
	};
	struct err err = { "" };

	return CHECK_MSG(!machine_create(m, &config, &err), "%s", err.text);
}

static u64 kvm_faults(struct machine *m)
{
	struct vm_stats stats;

	vm_get_stats(m->vm, &stats);
	return stats.faults;
}

/* Each line of a trace's file: words by separator. Return: how many lines, without comments. */
static u64 each_line(const char *name, u32 columns, void (*line)(char **word, void *arg), void *arg)
{
	char text[512], *word[24];
	FILE *f = fopen(tain_path(name), "r");
	u64 n = 0;

	if (!CHECK_MSG(f, "%s is there", name))
		return 0;
	while (fgets(text, sizeof(text), f)) {
		const char *separator = strchr(text, '\t') ? "\t" : " ";
		char *at = text;
		u32 words = 0;

		if (text[0] == '#')
			continue;
		text[strcspn(text, "\n")] = '\0';
		while (words < ARRAY_SIZE(word) - 1 && (word[words] = strsep(&at, separator)))
			words++;
		n++;
		if (CHECK_MSG(words == columns, "a line of %s has %u words", name, words))
			line(word, arg);
	}
	fclose(f);
	return n;
}

struct truth {
	struct machine *m;
	u64 data; /* lines that are pages of DATA */
	u64 wrong, no_hva;
	u8 page[PAGES];
};

/* gpa hva: as the machine has them? */
static void check_place(struct truth *t, const char *gpa_text, const char *hva_text)
{
	u64 gpa = strtoull(gpa_text, NULL, 0), hva = strtoull(hva_text, NULL, 0);

	if (gpa < GUEST_DATA_GPA || gpa >= GUEST_DATA_GPA + PAGES * PAGE_SIZE)
		return;
	t->data++;
	t->page[(gpa - GUEST_DATA_GPA) / PAGE_SIZE]++;
	t->no_hva += !hva;
	t->wrong += hva && hva != t->m->host.data + (gpa - GUEST_DATA_GPA);
}

static void fault_line(char **word, void *arg)
{
	static const char *const causes[] = { "new", "invalidated", "zapped", "write", "spurious", "untold", NULL };
	u32 cause = 0;

	check_place(arg, word[2], word[3]);
	while (causes[cause] && strcmp(causes[cause], word[6]))
		cause++;
	CHECK_MSG(causes[cause], "no cause is called %s", word[6]);
	CHECK_STR(word[4], "4K");
}

static void page_line(char **word, void *arg)
{
	check_place(arg, word[0], word[1]);
	CHECK_STR(word[2], "4096");
}

static void check_document(u64 taken, u64 data)
{
	json_t *doc = tain_json_file("t.json"), *trace = json_object_get(doc, "trace"), *events, *event;
	u64 walk = 0, fault = 0, closed;
	size_t i;

	if (!doc)
		return;
	CHECK_STR(json_text(doc, "command"), "trace");
	CHECK_EQ(json_u64(trace, "lost"), 0);
	/* What KVM took, the trace saw; on shadow paging emulated accesses walk, too. And where all that began went. */
	closed = json_u64(doc, "faults") + json_u64(trace, "retries") + json_u64(trace, "failed");
	CHECK_EQ(closed + json_u64(trace, "unfinished") + json_u64(trace, "mmio"), json_u64(trace, "attempts"));
	CHECK_EQ(strcmp(json_text(doc, "mmu"), "KVM kernel shadow") ? json_u64(trace, "attempts") : closed, taken);
	CHECK_GE(json_u64(doc, "faults"), data);
	CHECK_EQ(json_u64(json_object_get(json_object_get(doc, "histograms"), "fault"), "count"),
		 json_u64(doc, "faults"));
	events = json_object_get(trace, "event_list");
	json_array_foreach(events, i, event)
	{
		if (!strcmp(json_text(event, "name"), "kvmmmu:kvm_mmu_pagetable_walk"))
			walk = json_u64(event, "fired");
		if (!strcmp(json_text(event, "name"), "kvm:kvm_page_fault"))
			fault = json_u64(event, "fired");
	}
	CHECK_EQ(max(walk, fault), json_u64(trace, "attempts"));
}

static void counts_what_kvm_counts(void)
{
	static struct machine m;
	static struct truth truth;
	struct tain_run *r;
	u64 before, taken;

	if (!trace_or_skip() || !make_machine(&m))
		return;
	before = kvm_faults(&m);
	r = tain_start(NULL, WORDS("trace", "--pid", pid_text(getpid()), "-t", "0", "--json", "t.json", "--faults",
				   "faults", "--working-set", "pages"));
	if (tain_expect(r, &r->out, "until it ends\n", 1)) {
		struct err err = { "" };

		CHECK_MSG(!machine_start(&m, &err), "%s", err.text);
		CHECK(machine_wait(&m, START_NS));
	}
	CHECK_EQ(machine_stop(&m, START_NS, &(u32){ 0 }), 0);
	taken = kvm_faults(&m) - before;
	tain_pause(100); /* frames are looked up after the fault: the memory has to be there */
	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_EQ(r->status, 130);
	CHECK_GE(taken, PAGES);
	truth = (struct truth){ .m = &m };
	each_line("faults", 18, fault_line, &truth);
	CHECK_EQ(truth.data, PAGES);
	CHECK_EQ(truth.wrong, 0);
	CHECK_LE(truth.no_hva, 1); /* one page alone proves no memslot */
	check_document(taken, PAGES);
	truth = (struct truth){ .m = &m };
	each_line("pages", 5, page_line, &truth);
	CHECK_EQ(truth.data, PAGES);
	CHECK_EQ(truth.wrong + truth.no_hva, 0);
	for (u64 i = 0; i < PAGES && !test_failures(); i++)
		CHECK_EQ(truth.page[i], 1);
	CHECK_CONTAINS(r->out.text, "anonymous");
	machine_destroy(&m);
}

/* --- what is no VMM, and who may not look ----------------------------------------------- */

static void bad_input(void)
{
	static const struct {
		const char *words[8];
		const char *text;
	} table[] = {
		{ { "trace" }, "--pid PID is needed: the VMM whose faults are to be traced" },
		{ { "trace", "--pid", "0" }, "--pid: ..." },
		{ { "trace", "--pid", "x" }, "--pid: ..." },
		{ { "trace", "--pid", "67108863" }, "there is no process 67108863" },
		{ { "trace", "--pid", "1", "-t", "-1" }, "-t: ..." },
		{ { "trace", "--pid", "1", "--buffer", "1" }, "--buffer: ..." },
		{ { "trace", "--pid", "1", "--json", "-", "--faults", "-" },
		  "only one of --json, --faults and --working-set can have standard output" },
		{ { "trace", "--pid", "1", "--faults", "x", "--working-set", "x" },
		  "--faults and --working-set are one file: x" },
		{ { "trace", "--pid", "1", "--json", "x", "--working-set", "x" },
		  "--json and --working-set are one file: x" },
		{ { "trace", "--pid", "1", "--working-set", "nowhere/pages" },
		  "--working-set: cannot write to nowhere: ..." },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		check_refused(tain_run(NULL, table[i].words), 2, table[i].text);
}

static u32 leave;

static void stay(void *arg)
{
	while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE))
		thread_sleep_ns(NSEC_PER_MSEC);
}

static void no_user_of_kvm(void)
{
	struct thread other;
	char text[128];
	u32 tid;

	snprintf(text, sizeof(text), "process %d (...", getppid());
	check_refused(TAIN("trace", "--pid", pid_text(getppid())), 2, text);
	leave = 0;
	REQUIRE_EQ(thread_create(&other, "other", -1, stay, NULL), 0);
	while (!(tid = __atomic_load_n(&other.tid, __ATOMIC_ACQUIRE)))
		thread_sleep_ns(NSEC_PER_MSEC);
	snprintf(text, sizeof(text), "%u is a thread of process %d: say --pid %d", tid, getpid(), getpid());
	check_refused(TAIN("trace", "--pid", pid_text((int)tid)), 2, text);
	__atomic_store_n(&leave, 1, __ATOMIC_RELEASE);
	thread_join(&other);
}

/* As in docs/trace.md: `tain stress & tain trace --pid $!`. */
static void a_vmm_that_has_just_begun(void)
{
	const struct tain_setup late = { .before = WORDS("sh", "-c", "sleep 0.5; exec \"$0\" \"$@\"") };
	struct tain_run *r;

	if (!trace_or_skip())
		return;
	r = tain_start(&late, WORDS("stress", "-q", "-e", "kvm", "-b", "1M", "--time", "10m", "-i", "1000000000"));
	CHECK_EQ(TAIN("trace", "--pid", pid_text(r->pid), "-t", "100ms", "-q")->status, 0);
}

static void without_privilege(void)
{
	static struct machine m;
	struct tain_setup nobody = { .before = WORDS("setpriv", "--reuid=65534", "--clear-groups", "--") };
	const struct tain_run *r;

	if (geteuid()) {
		test_skip("not root: there is no privilege to drop");
		return;
	}
	if (!trace_or_skip() || !program_or_skip("setpriv") || !make_machine(&m))
		return;
	r = TAIN_WITH(&nobody, "trace", "--pid", pid_text(getpid()), "-t", "1s");
	CHECK_EQ(r->status, 4);
	CHECK_EQ(tain_count(r->err.text, "\n"), 1);
	CHECK_CONTAINS(r->err.text, "tain: cannot look at process ");
	CHECK_STR(r->out.text, "");
	machine_destroy(&m);
}

/* --- nothing is left ------------------------------------------------------------------------ */

static void instance_goes_on_every_way(void)
{
	static struct machine m;
	int dir, signals[] = { SIGINT, SIGTERM, SIGKILL };
	struct tain_run *r;

	if (!kvm_or_skip())
		return;
	dir = instances_or_skip();
	if (dir < 0 || !make_machine(&m))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		int pid;

		r = tain_start(NULL, WORDS("trace", "--pid", pid_text(getpid()), "-t", "0"));
		pid = r->pid;
		if (!tain_expect(r, &r->out, "until it ends\n", 1))
			break;
		CHECK_EQ(instances_of(dir, pid), 1);
		kill(pid, signals[i]);
		tain_wait(r);
		CHECK_EQ(r->status, 128 + signals[i]);
		/* After kill -9 a process that outlives it does it; the watchdog is the limit. */
		while (signals[i] == SIGKILL && instances_of(dir, pid))
			thread_sleep_ns(NSEC_PER_MSEC);
		CHECK_EQ(instances_of(dir, pid), 0);
	}
	close(dir);
	machine_destroy(&m);
}

static void vmm_that_ends(void)
{
	struct tain_run *vmm, *r;

	if (!trace_or_skip())
		return;
	vmm = tain_start(NULL, WORDS("stress", "--engine", "kvm", "-b", "2M", "-v", "1", "--time", "60s", "--ops",
				     "munmap,mprotect"));
	if (!tain_expect(vmm, &vmm->out, "vCPU", 1))
		return;
	/* Its VM may not be there yet. */
	r = tain_start(NULL, WORDS("trace", "--pid", pid_text(vmm->pid), "-t", "0", "-q"));
	if (tain_expect(r, &r->out, "until it ends\n", 1)) {
		tain_pause(300);
		kill(vmm->pid, SIGTERM);
	}
	tain_wait(r);
	CHECK_EQ(r->status, 0);
	CHECK_CONTAINS(r->out.text, " has ended\n");
	CHECK_CONTAINS(r->out.text, "second-MMU faults");
	tain_wait(vmm);
}

/* A buffer that is too small: the loss is told. */
static void lost_events_are_told(void)
{
	const struct tain_run *r;
	struct tain_run *vmm;
	json_t *trace;

	if (!trace_or_skip())
		return;
	vmm = tain_start(NULL, WORDS("stress", "--engine", "kvm", "-b", "8M", "-v", "2", "--time", "60s", "--ops",
				     "munmap,mprotect", "-q"));
	if (!tain_expect(vmm, &vmm->out, "seed", 1))
		return;
	tain_pause(300);
	r = TAIN("trace", "--pid", pid_text(vmm->pid), "-t", "1s", "--buffer", "64K", "--json", "t.json", "-q");
	CHECK_EQ(r->status, 0);
	trace = json_object_get(tain_json_file("t.json"), "trace");
	if (json_u64(trace, "lost"))
		CHECK_CONTAINS(r->out.text, "events lost");
	else
		CHECK_MSG(!strstr(r->out.text, "events lost"), "a loss is told, and there was none");
	kill(vmm->pid, SIGTERM);
	tain_wait(vmm);
}

const struct test_case cmd_trace_tests[] = {
	TEST(counts_what_kvm_counts),
	TEST(bad_input),
	TEST(no_user_of_kvm),
	TEST(without_privilege),
	TEST(instance_goes_on_every_way),
	TEST(a_vmm_that_has_just_begun),
	TEST(vmm_that_ends),
	TEST(lost_events_are_told),
	TEST_END,
};
