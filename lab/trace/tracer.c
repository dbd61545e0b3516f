/* SPDX-License-Identifier: MIT */
/* An instance of tracefs of tain's own: made, filled, read and removed. */
#include "lab/trace/tracer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tracefs.h>
#include <unistd.h>

#include "lab/system/event_dir.h"
#include "lab/system/keeper.h"
#include "lib/alloc.h"
#include "lib/time.h"

#define INIT_PID_NAMESPACE "pid:[4026531836]" /* PROC_PID_INIT_INO: the only one whose pids events have */
#define LIST_BYTES (256 << 10)

struct event_reader {
	int id;
	struct {
		int offset, size;
	} field[KVM_EVENT_FIELDS];
};

struct tracer {
	struct event_dir dir;
	struct tep_handle *tep;
	struct tracefs_instance *instance;
	char name[64];
	bool stopped;
	struct tracer_event event[KVM_EVENT_NR];
	struct event_reader reader[KVM_EVENT_NR];
	u8 event_of[4096]; /* by the kernel's number: enum kvm_event + 1 */
	struct kvm_event_record *record;
	u64 nr, max, given, order;
	int ret; /* of a read that failed */
};

/* --- tracefs ------------------------------------------------------------------------------- */

static int find_tracefs(struct tracer *t, struct err *err)
{
	char path[64];
	int ret = event_dir_open(&t->dir, err);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/instances", t->dir.path);
	if (access(path, W_OK))
		return err_set(err, -EACCES, "%s: %s: run as root", path, strerror(errno));
	tracefs_set_tracing_dir(t->dir.path);
	return 0;
}

static void own_name(char *name, size_t bytes)
{
	snprintf(name, bytes, "tain-%d-%llu", getpid(), (unsigned long long)vmm_process_start(getpid()));
}

/* --- if tain is killed ----------------------------------------------------------------------- */

static struct {
	struct keeper keeper;
	int dir; /* of the instances */
	char name[64];
} keep;

/* The dead one's descriptors of it may be closed only now. */
static void remove_own(void *unused)
{
	for (int i = 0; i < 600 && unlinkat(keep.dir, keep.name, AT_REMOVEDIR) && errno != ENOENT; i++)
		usleep(100000);
}

int tracer_keep(struct err *err)
{
	struct event_dir dir;
	int only[2] = { -1, -1 }, ret;
	char path[64];

	if (event_dir_open(&dir, NULL))
		return 0;
	snprintf(path, sizeof(path), "%s/instances", dir.path);
	keep.dir = only[0] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	event_dir_close(&dir);
	if (keep.dir < 0)
		return 0;
	own_name(keep.name, sizeof(keep.name));
	ret = keeper_start(&keep.keeper, "tain-keeper", only, remove_own, NULL, err);
	close(keep.dir);
	return ret;
}

void tracer_keep_end(void)
{
	keeper_end(&keep.keeper);
}

/* Instances that tain left behind when it was killed, and its keeper too. */
static int remove_dead(const char *name, void *arg)
{
	struct tracefs_instance *instance;
	unsigned long long start;
	int pid, end = 0;

	if (sscanf(name, "tain-%d-%llu%n", &pid, &start, &end) != 2 || name[end] || vmm_process_start(pid) == start)
		return 0;
	instance = tracefs_instance_create(name); /* it is there: opened */
	if (instance) {
		tracefs_instance_destroy(instance);
		tracefs_instance_free(instance);
	}
	return 0;
}

/* --- events ---------------------------------------------------------------------------------- */

static void event_refuse(struct tracer_event *e, const char *why, const char *what)
{
	snprintf(e->why, sizeof(e->why), "%s%s", why, what);
}

/* Where the event's fields are. */
static bool event_format(struct tracer *t, enum kvm_event i)
{
	const struct kvm_event_desc *desc = &kvm_event_table[i];
	struct event_reader *reader = &t->reader[i];
	char *format = tracefs_event_file_read(t->instance, desc->system, desc->name, "format", NULL);
	struct tep_format_field *field;
	struct tep_event *event;

	if (!format) {
		event_refuse(&t->event[i], "this kernel has no such event", "");
		return false;
	}
	tep_parse_event(t->tep, format, strlen(format), desc->system);
	free(format);
	event = tep_find_event_by_name(t->tep, desc->system, desc->name);
	if (!event || event->id <= 0 || event->id >= (int)ARRAY_SIZE(t->event_of)) {
		event_refuse(&t->event[i], "its format is not understood", "");
		return false;
	}
	reader->id = event->id;
	for (int f = 0; f < KVM_EVENT_FIELDS && desc->field[f]; f++) {
		field = tep_find_field(event, desc->field[f]);
		if (!field) {
			event_refuse(&t->event[i], "this kernel's lacks the field ", desc->field[f]);
			return false;
		}
		reader->field[f].offset = field->offset;
		reader->field[f].size = field->size;
	}
	return true;
}

static void event_enable(struct tracer *t, enum kvm_event i)
{
	const struct kvm_event_desc *desc = &kvm_event_table[i];
	struct tracer_event *e = &t->event[i];

	e->available = event_format(t, i);
	if (!e->available)
		return;
	if (desc->filter &&
	    tracefs_event_file_write(t->instance, desc->system, desc->name, "filter", desc->filter) < 0) {
		event_refuse(e, "this kernel refuses the filter ", desc->filter);
		return;
	}
	t->event_of[t->reader[i].id] = (u8)(i + 1);
	/* libtracefs has a function for it, which looks through all events of the kernel. */
	e->enabled = tracefs_event_file_write(t->instance, desc->system, desc->name, "enable", "1") >= 0;
	if (!e->enabled)
		event_refuse(e, "it cannot be enabled: ", strerror(errno));
}

static int read_header(struct tracer *t, struct err *err)
{
	char *header;
	int size;

	t->tep = tep_alloc();
	if (!t->tep)
		return err_set(err, -ENOMEM, "no memory");
	tep_set_loglevel(TEP_LOG_NONE);
	tep_set_file_bigendian(t->tep, TEP_LITTLE_ENDIAN);
	tep_set_local_bigendian(t->tep, TEP_LITTLE_ENDIAN);
	header = tracefs_instance_file_read(NULL, "events/header_page", &size);
	if (!header || tep_parse_header_page(t->tep, header, (unsigned long)size, sizeof(long))) {
		free(header);
		return err_set(err, -EOPNOTSUPP, "tracefs: events/header_page cannot be read");
	}
	free(header);
	return 0;
}

/* --- open and close ---------------------------------------------------------------------------- */

static int instance_write(struct tracer *t, const char *file, const char *text, struct err *err)
{
	if (tracefs_instance_file_write(t->instance, file, text) >= 0)
		return 0;
	return err_set(err, -errno ?: -EIO, "tracefs: instances/%s/%s: %s", t->name, file, strerror(errno));
}

static int follow(struct tracer *t, const struct vmm_process *p, struct err *err)
{
	char *list = mem_alloc(LIST_BYTES);
	int ret = list ? vmm_process_tids(p, list, LIST_BYTES) : -ENOMEM;

	ret = ret ? err_set(err, ret == -ENOENT || ret == -ESRCH ? -ENOENT : ret, "process %d: %s", p->pid,
			    strerror(-ret))
		  : instance_write(t, "set_event_pid", list, err);
	mem_free(list);
	return ret;
}

static int configure(struct tracer *t, const struct vmm_process *p, u64 buffer_kib, struct err *err)
{
	bool enabled = false;
	char size[32];
	int ret;

	snprintf(size, sizeof(size), "%llu", (unsigned long long)buffer_kib);
	ret = instance_write(t, "tracing_on", "0", err) ?: instance_write(t, "trace_clock", "mono", err) ?:
	      instance_write(t, "buffer_size_kb", size, err) ?: instance_write(t, "options/event-fork", "1", err) ?:
	      follow(t, p, err);
	if (ret)
		return ret;
	for (int i = 0; i < KVM_EVENT_NR; i++) {
		event_enable(t, (enum kvm_event)i);
		enabled |= t->event[i].enabled && !strncmp(kvm_event_table[i].system, "kvm", 3);
	}
	if (!enabled)
		return err_set(err, -EOPNOTSUPP, "this kernel has none of KVM's events: is the module kvm loaded?");
	/* Threads that came between the list and event-fork. */
	return follow(t, p, err) ?: instance_write(t, "tracing_on", "1", err);
}

int tracer_open(struct tracer **tracer, const struct vmm_process *p, u64 buffer_kib, struct err *err)
{
	struct tracer *t = mem_zalloc(sizeof(*t));
	char space[64];
	ssize_t n = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);
	int ret;

	*tracer = t;
	if (!t)
		return err_set(err, -ENOMEM, "no memory");
	t->dir.mount = -1;
	space[max(n, 0)] = '\0';
	if (strcmp(space, INIT_PID_NAMESPACE))
		return err_set(err, -EOPNOTSUPP,
			       "the kernel's events have the machine's pids, which this pid namespace hides: run tain "
			       "outside of it");
	ret = find_tracefs(t, err);
	if (ret)
		return ret;
	tracefs_instances_walk(remove_dead, NULL);
	ret = read_header(t, err);
	if (ret)
		return ret;
	own_name(t->name, sizeof(t->name));
	t->instance = tracefs_instance_create(t->name);
	if (!t->instance)
		return err_set(err, errno == EROFS || errno == EPERM ? -EPERM : -errno ?: -EIO,
			       "tracefs: cannot make the instance %s: %s", t->name, strerror(errno));
	return configure(t, p, buffer_kib, err);
}

int tracer_close(struct tracer *t, struct err *err)
{
	int ret = 0;

	if (!t)
		return 0;
	if (t->instance) {
		tracer_stop(t);
		if (tracefs_instance_destroy(t->instance))
			ret = err_set(err, -errno ?: -EBUSY,
				      "tracefs: instances/%s cannot be removed: %s: the next tain trace will", t->name,
				      strerror(errno));
		tracefs_instance_free(t->instance);
	}
	if (t->tep)
		tep_free(t->tep);
	event_dir_close(&t->dir);
	mem_free(t->record);
	mem_free(t);
	return ret;
}

void tracer_stop(struct tracer *t)
{
	if (!t->stopped)
		tracefs_instance_file_write(t->instance, "tracing_on", "0");
	t->stopped = true;
}

/* --- reading -------------------------------------------------------------------------------------- */

static bool record_room(struct tracer *t)
{
	u64 max = t->max ? t->max * 2 : 1 << 14;
	struct kvm_event_record *more;

	if (t->nr < t->max)
		return true;
	more = mem_alloc(max * sizeof(*more));
	if (!more)
		return false;
	if (t->nr)
		memcpy(more, t->record, t->nr * sizeof(*more));
	mem_free(t->record);
	t->record = more;
	t->max = max;
	return true;
}

static int on_record(struct tep_event *event, struct tep_record *record, int cpu, void *arg)
{
	struct tracer *t = arg;
	struct kvm_event_record *r;
	const struct event_reader *reader;
	u8 which = event->id < (int)ARRAY_SIZE(t->event_of) ? t->event_of[event->id] : 0;

	if (!which)
		return 0;
	if (!record_room(t)) {
		t->ret = -ENOMEM;
		return 0; /* what was taken out of the kernel's buffer is read to its end all the same */
	}
	reader = &t->reader[which - 1];
	r = &t->record[t->nr++];
	*r = (struct kvm_event_record){ .ns = record->ts, .order = t->order++, .event = which - 1u };
	r->tid = (u32)tep_data_pid(t->tep, record);
	for (int f = 0; f < KVM_EVENT_FIELDS && reader->field[f].size; f++)
		if (reader->field[f].offset + reader->field[f].size <= record->size)
			r->value[f] = tep_read_number(t->tep, (const char *)record->data + reader->field[f].offset,
						      reader->field[f].size);
	t->event[r->event].fired++;
	return 0;
}

static int by_time(const void *a, const void *b)
{
	const struct kvm_event_record *x = a, *y = b;

	if (x->ns != y->ns)
		return x->ns < y->ns ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/*
 * Each processor has a buffer of its own, and they are read one after the other: what is
 * younger than the start of the reading waits for the next one, so that nothing older than
 * what is given out can come later.
 */
int tracer_read(struct tracer *t, struct kvm_event_record **record, u64 *nr, struct err *err)
{
	u64 until = clock_ns(), n;

	if (t->given)
		memmove(t->record, t->record + t->given, (t->nr - t->given) * sizeof(*t->record));
	t->nr -= t->given;
	t->given = 0;
	*nr = 0;
	if (tracefs_iterate_raw_events(t->tep, t->instance, NULL, 0, on_record, t) < 0 && errno != EINTR &&
	    errno != EAGAIN)
		return err_set(err, -errno, "tracefs: instances/%s: %s", t->name, strerror(errno));
	if (t->ret)
		return err_set(err, t->ret, "no memory for %llu events", (unsigned long long)t->nr);
	if (t->nr)
		qsort(t->record, t->nr, sizeof(*t->record), by_time);
	for (n = t->nr; !t->stopped && n && t->record[n - 1].ns >= until; n--)
		;
	*record = t->record;
	*nr = t->given = n;
	return 0;
}

u64 tracer_lost(struct tracer *t)
{
	static const char *const keys[] = { "\noverrun: ", "\ncommit overrun: ", "\ndropped events: " };
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	char file[64], *text, *at;
	u64 lost = 0;

	for (long cpu = 0; cpu < cpus; cpu++) {
		snprintf(file, sizeof(file), "per_cpu/cpu%ld/stats", cpu);
		text = tracefs_instance_file_read(t->instance, file, NULL);
		for (size_t i = 0; text && i < ARRAY_SIZE(keys); i++) {
			at = strstr(text, keys[i]);
			lost += at ? strtoull(at + strlen(keys[i]), NULL, 10) : 0;
		}
		free(text);
	}
	return lost;
}

const struct tracer_event *tracer_events(const struct tracer *t)
{
	return t->event;
}

const char *tracer_instance(const struct tracer *t)
{
	return t->name;
}
