/* SPDX-License-Identifier: MIT */
/*
 * bench fault: KVM's own events about the same faults. They say when the host's page was
 * known, inside one fault: that needs no second measurement, but recording takes time too,
 * and what came before is KVM's way to the page besides the host's work: no share of anybody.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lab/bench/fault_internal.h"
#include "lab/trace/fault_stream.h"
#include "lab/trace/tracer.h"

#define TRACED_MAX 256
#define BUFFER_KIB 4096

struct seen {
	struct hist page, after;
	u64 faults;
	u32 tid; /* of the vCPU */
};

static void on_fault(const struct fault *f, void *arg)
{
	struct seen *s = arg;

	if (f->tid != s->tid || f->late)
		return;
	s->faults++;
	hist_add(&s->page, f->page_ns);
	hist_add(&s->after, f->ns - f->page_ns);
}

static hva_t unknown(u64 gfn, void *arg)
{
	return 0;
}

static int read_faults(struct bench_run *b, struct tracer *tracer, struct seen *seen, struct err *err)
{
	const char *mmu = b->result->id.mmu;
	const struct fault_stream_config config = {
		.ept = !strcmp(mmu, "KVM EPT"),
		.tdp = !strcmp(mmu, "KVM EPT") || !strcmp(mmu, "KVM NPT"),
		.hva = unknown,
		.fault = on_fault,
		.arg = seen,
	};
	struct kvm_event_record *record;
	struct fault_stream stream;
	u64 nr = 0;
	int ret;

	ret = tracer_read(tracer, &record, &nr, err);
	if (ret)
		return ret;
	if (fault_stream_init(&stream, &config))
		return err_set(err, -ENOMEM, "no memory for the faults");
	for (u64 i = 0; i < nr && !ret; i++)
		ret = fault_stream_feed(&stream, &record[i]);
	fault_stream_finish(&stream);
	fault_stream_destroy(&stream);
	return ret ? err_set(err, ret, "no memory for the faults") : 0;
}

/* The guest's accesses while events are recorded. */
static int record(struct bench_run *b, const struct bench_recipe *r, const struct vmm_process *self, struct seen *seen,
		  struct err *err)
{
	const struct guest_command command = {
		.pages = touch_part(&b->touch),
		.order = GUEST_ORDER_STRIDE,
		.stride = r->apart,
		.limit = min(touch_part(&b->touch) / r->apart, (u64)TRACED_MAX),
		.write = !r->read,
	};
	struct tracer *tracer;
	int ret = tracer_open(&tracer, self, BUFFER_KIB, err), end;

	if (!ret) {
		ret = touch_run(&b->touch, &command, NULL, NULL, NULL, err);
		tracer_stop(tracer);
		ret = ret ?: read_faults(b, tracer, seen, err);
	}
	end = tracer_close(tracer, ret ? NULL : err);
	return ret ?: end;
}

static int prepared(struct bench_run *b, enum bench_cause cause, const struct vmm_process *self, struct seen *seen,
		    struct err *err)
{
	const struct bench_recipe *r = bench_recipe(cause);
	int ret = r->prepare(b, err), end;

	if (ret)
		return ret;
	ret = record(b, r, self, seen, err);
	end = r->end ? r->end(b, ret ? NULL : err) : 0;
	return ret ?: end;
}

int bench_traced(struct bench_run *b, enum bench_cause cause, struct err *err)
{
	struct bench_fault_result *result = b->result;
	struct seen seen = { .tid = READ_ONCE(b->touch.machine.vcpu[0].thread.tid) };
	struct vmm_process self = { .pidfd = -1, .pagemap = -1 };
	struct err why = { "" };
	int ret = hist_init(&seen.page) ?: hist_init(&seen.after);

	if (ret) {
		hist_destroy(&seen.page);
		return err_set(err, ret, "no memory for the histograms");
	}
	ret = vmm_process_open(&self, getpid(), &why);
	ret = ret ?: prepared(b, cause, &self, &seen, &why);
	vmm_process_close(&self);
	if (!ret && seen.faults)
		result->traced[cause] = (struct bench_traced){
			.faults = seen.faults,
			.until_page = hist_percentile(&seen.page, 50),
			.after_page = hist_percentile(&seen.after, 50),
		};
	hist_destroy(&seen.page);
	hist_destroy(&seen.after);
	if (ret == -EOPNOTSUPP || ret == -EPERM ||
	    ret == -EACCES) { /* the events, or what prepares; both are told once */
		snprintf(result->no_trace, sizeof(result->no_trace), "%.239s", why.text);
		return 0;
	}
	return ret ? err_set(err, ret, "%s", why.text) : 0;
}
