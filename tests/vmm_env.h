/* SPDX-License-Identifier: MIT */
/* A virtual machine under test: memory, one thread per vCPU, and a record of what its handler was told. */
#ifndef TESTS_VMM_ENV_H
#define TESTS_VMM_ENV_H

#include "guest/test/probe.h"
#include "lib/thread.h"
#include "tests/test.h"
#include "vmm/engine.h"

#define ENV_REASONS (VCPU_EXIT_CRASH + 1)

struct env;

/* One vCPU; everything but count belongs to its thread until env_join(). */
struct env_vcpu {
	struct env *env;
	struct vcpu *vcpu;
	u32 id;
	struct thread thread;
	u32 count[ENV_REASONS]; /* exits told, by reason; atomic */
	struct vcpu_exit last;	/* the last exit that was no text */
	char text[4096];
	size_t text_bytes;
	int ret; /* of vcpu_run() */
	struct err err;
};

struct env {
	const struct engine *engine;
	struct vm *vm;
	hva_t data; /* the DATA mapping, in the engine's host address space */
	size_t bytes;
	u32 vcpus;
	/* What a test wants of an exit; NULL: go on after text, leave otherwise. */
	bool (*handler)(struct env_vcpu *v, const struct vcpu_exit *exit);
	void *arg;
	struct env_vcpu vcpu[GUEST_MAX_VCPUS];
};

/*
 * Create a VM with @pages of DATA and 1 MiB of SHARED. Return: false when the engine
 * cannot run here (skipped by name) or creation failed (recorded).
 */
bool env_create(struct env *e, const struct engine *engine, u32 vcpus, u64 pages);
void env_destroy(struct env *e);

/* Load a built-in workload, or "probe"; up to two arguments, NULL for none. Return: false if it failed (recorded). */
bool env_load(struct env *e, const char *guest, const char *arg0, const char *arg1);

void env_start(struct env *e);
void env_join(struct env *e);
/* Both, then: every vCPU ended by itself. */
void env_run(struct env *e);

u32 env_count(struct env *e, u32 vcpu, enum vcpu_exit_reason reason);
/* Wait until it is at least @n; the test's watchdog is the limit. */
void env_wait_count(struct env *e, u32 vcpu, enum vcpu_exit_reason reason, u32 n);
void env_wait_heartbeat(struct env *e, u32 vcpu);

/* Post a command to the touch workload and wait for its end. */
void env_command(struct env *e, u32 vcpu, const struct guest_command *command);

/* The host's side of one page of DATA. */
void env_unmap(struct env *e, u64 page);
void env_map(struct env *e, u64 page);
void env_protect(struct env *e, u64 page, int prot); /* Linux's PROT_ values */
u64 env_read64(struct env *e, u64 offset);
void env_write64(struct env *e, u64 offset, u64 value);

#endif /* TESTS_VMM_ENV_H */
