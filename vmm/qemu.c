/* SPDX-License-Identifier: MIT */
/*
 * Engine `qemu`: a libvirt domain. The guest is the same ELF file, booted through its PVH
 * note; its vCPUs run in QEMU, whose RAM is mapped here too. A vCPU of tain's is a thread
 * that waits for one of QEMU's to say that it has ended.
 *
 *   vm_create()  connect; SHARED is plain memory, DATA's place in the domain is chosen
 *   vm_load()    domain created, paused; its RAM found, SHARED copied into it, and mapped
 *                over SHARED and over the caller's DATA: every address stays what it was
 *   vcpu_run()   the first one lets the domain run
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/thread.h"
#include "lib/time.h"
#include "vmm/elf.h"
#include "vmm/kvm_internal.h"
#include "vmm/qemu_internal.h"

#define FIRMWARE_BYTES (32ul << 20) /* firmware puts its tables at the end of low memory */
#define GIB (1ul << 30)

/* How often a vCPU's thread looks whether it has ended: there is nothing to wake it. */
#define LOOK_MS 2
#define OFF_MS 1000
#define SHORT_GUEST_MS 20000 /* libvirt has seen it end; so it does, however busy the machine is */
#define LOG_NS (10 * NSEC_PER_SEC)
#define LAST_WORDS_NS (20 * NSEC_PER_SEC)

struct qemu_config qemu_config = { .accel = "auto", .backing = "memfd" };

/* --- memory ------------------------------------------------------------------------------------ */

/* Up to most_low bytes of RAM are all below 4 GiB; of more, split bytes are, and the rest lies at 4 GiB. */
static const struct machine_kind {
	const char *name, *versions;
	u64 most_low, split;
} machines[] = {
	{ "microvm", NULL, 3 * GIB, 3 * GIB },
	{ "pc", "pc-i440fx-", 0xe0000000 - LARGE_PAGE, 3 * GIB },
	{ "q35", "pc-q35-", 0xb0000000 - LARGE_PAGE, 2 * GIB },
};

static const struct machine_kind *find_machine(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		const struct machine_kind *m = &machines[i];

		if (!strcmp(name, m->name) || (m->versions && !strncmp(name, m->versions, strlen(m->versions))))
			return m;
	}
	return NULL;
}

static int lay_out(struct qemu_layout *l, const struct vm_config *config, struct err *err)
{
	const struct machine_kind *m = find_machine(qemu_config.machine);
	u64 shared_end = align_up(GUEST_SHARED_GPA + config->shared_bytes, LARGE_PAGE), data;

	if (!m)
		return err_set(err, -EINVAL,
			       "machine '%s'; microvm, pc or q35, or a version of the last two, are possible",
			       qemu_config.machine);
	data = align_up((u64)config->data_bytes, LARGE_PAGE);
	l->ram_start = qemu_config.under_linux && !strcmp(qemu_config.backing, "file") ? GUEST_SHARED_GPA : 0;
	if (shared_end + FIRMWARE_BYTES > m->split || data > GUEST_BOOT_LIMIT - GUEST_DATA_GPA)
		return err_set(err, -EINVAL, "%zu bytes of guest memory are too many for engine qemu",
			       config->data_bytes);
	l->data_gpa = l->data_offset = shared_end;
	l->ram_bytes = shared_end + data + FIRMWARE_BYTES;
	if (l->ram_bytes > m->most_low) {
		l->data_gpa = GUEST_DATA_GPA;
		l->data_offset = m->split;
		l->ram_bytes = max(m->split + data, m->most_low + LARGE_PAGE);
	}
	return 0;
}

/* What the user asked for, before anybody is asked for it. */
static int check_options(struct qemu_layout *layout, const struct vm_config *config, struct err *err)
{
	const char *accel = qemu_config.accel;
	int ret;

	if (!qemu_config.machine) /* Linux finds no clock in a microvm of QEMU 7.2 under TCG */
		qemu_config.machine = qemu_config.under_linux ? "q35" : "microvm";
	if (strcmp(accel, "auto") && strcmp(accel, "kvm") && strcmp(accel, "tcg"))
		return err_set(err, -EINVAL, "accelerator '%s'; kvm, tcg or auto are possible", accel);
	if (qemu_config.under_linux && !strcmp(qemu_config.machine, "microvm") && strcmp(accel, "kvm"))
		return err_set(err, -EINVAL,
			       "--linux: in a microvm Linux finds no clock under TCG; give --machine q35, or "
			       "--accel kvm");
	ret = qemu_config.under_linux ? qemu_linux_check(err) : 0;
	return ret ?: lay_out(layout, config, err);
}

/*
 * RAM at @offset instead of what is at @at; the address stays. Other threads may read there
 * meanwhile: each access meets the one or the other. Not mmap(): to the thread sanitizer
 * that is a write to all of it.
 */
static int map_over(const struct qemu_domain *d, hva_t at, u64 bytes, u64 offset, struct err *err)
{
	if (!bytes || (void *)syscall(SYS_mmap, at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, d->ram,
				      offset) != MAP_FAILED)
		return 0;
	return err_set(err, -errno, "domain %s: its memory cannot be mapped: %s", d->name, strerror(errno));
}

int qemu_map_memory(struct vm *vm, const struct qemu_domain *d, struct err *err)
{
	const struct qemu_layout *l = &to_qemu(vm)->layout;
	u64 offset = qemu_in_ram(l, l->data_offset);
	int ret;

	ret = map_over(d, (hva_t)(uintptr_t)vm->shared, vm->config.shared_bytes, qemu_in_ram(l, GUEST_SHARED_GPA), err);
	for (u32 i = 0; i < vm->ranges && !ret; i++, offset += vm->range_bytes)
		ret = map_over(d, vm->data_hva[i], vm->range_bytes, offset, err);
	return ret;
}

/* What tain has written into SHARED so far, into the domain's. */
static int give_shared(struct vm *vm, struct err *err)
{
	const struct qemu_domain *d = &to_qemu(vm)->domain;
	size_t bytes = vm->config.shared_bytes;
	off_t at = (off_t)qemu_in_ram(&to_qemu(vm)->layout, GUEST_SHARED_GPA);
	void *to = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, d->ram, at);

	if (to == MAP_FAILED)
		return err_set(err, -errno, "domain %s: its memory cannot be mapped: %s", d->name, strerror(errno));
	memcpy(to, vm->shared, bytes);
	munmap(to, bytes);
	return 0;
}

static int qemu_set_memory(struct vm *vm, u32 slot, gpa_t gpa, hva_t hva, size_t bytes, struct err *err)
{
	(void)hva;
	if (slot < VM_SLOT_DATA || to_qemu(vm)->domain.handle)
		return err_set(err, -EOPNOTSUPP, "engine qemu: a domain's memory stays as it began");
	if (gpa + bytes - vm->data_gpa > align_up((u64)vm->config.data_bytes, LARGE_PAGE))
		return err_set(err, -EINVAL, "%zu bytes of DATA at %#llx; the VM was made for %zu", bytes,
			       (unsigned long long)gpa, vm->config.data_bytes);
	return 0;
}

/* --- the VM ---------------------------------------------------------------------------------------- */

/* Would libvirt start such a domain? */
static int qemu_probe(struct err *why)
{
	struct vm_config config = { .vcpus = 1, .shared_bytes = PAGE_SIZE };
	struct qemu_layout layout;
	virConnectPtr connection;
	bool kvm;
	int ret;

	ret = check_options(&layout, &config, why);
	ret = ret ?: qemu_connect(&connection, why);
	if (ret)
		return ret;
	ret = qemu_choose_accel(connection, &kvm, why);
	virt->virConnectClose(connection);
	return ret;
}

static bool all_ended(struct vm *vm)
{
	for (u32 i = 0; i < vm->config.vcpus; i++)
		if (!smp_load_acquire(&vm_guest_vcpu(vm, i)->ended)) /* pairs with the store at a guest's end */
			return false;
	return true;
}

static void qemu_destroy(struct vm *vm)
{
	struct qemu_vm *q = to_qemu(vm);

	if (q->domain.handle) {
		struct pollfd p = { .fd = q->domain.pidfd, .events = POLLIN };

		if (q->started && all_ended(vm)) /* the last one has turned the machine off */
			poll(&p, 1, OFF_MS);
		qemu_domain_end(q, &q->domain);
	}
	if (q->connection)
		virt->virConnectClose(q->connection);
	qemu_lost_forget(vm);
	if (vm->shared)
		munmap(vm->shared, vm->config.shared_bytes);
	vm->shared = NULL;
	vm->priv = NULL;
	mem_free(q->elf);
	mem_free(q);
}

static void fill_identity(struct vm *vm)
{
	struct qemu_vm *q = to_qemu(vm);

	kvm_identify(vm, &q->id);
	q->id.engine = "qemu";
	if (!q->kvm)
		q->id.mmu = "QEMU TCG";
	if (qemu_config.under_linux)
		qemu_linux_name(q->id.under, sizeof(q->id.under));
}

static void qemu_identify(struct vm *vm, struct vm_identity *id)
{
	*id = to_qemu(vm)->id;
}

static int qemu_create(struct vm *vm, const struct vm_config *config, struct err *err)
{
	struct qemu_vm *q = mem_zalloc(sizeof(*q));
	int ret;

	if (!q)
		return err_set(err, -ENOMEM, "no memory for a VM");
	vm->priv = q;
	q->domain = (struct qemu_domain){ .pidfd = -1, .ram = -1, .console = -1 };
	ret = check_options(&q->layout, config, err);
	ret = ret ?: qemu_connect(&q->connection, err);
	ret = ret ?: qemu_choose_accel(q->connection, &q->kvm, err);
	if (ret)
		goto fail;
	qemu_find_logs(q->connection, q->log_dir, sizeof(q->log_dir));
	qemu_sweep(q->connection, q->log_dir);
	vm->data_gpa = q->layout.data_gpa;
	vm->shared = mmap(NULL, config->shared_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->shared == MAP_FAILED) {
		vm->shared = NULL;
		ret = err_set(err, -errno, "no memory shared with the guest: %s", strerror(errno));
		goto fail;
	}
	fill_identity(vm);
	return 0;
fail:
	qemu_destroy(vm);
	return ret;
}

static int keep_elf(struct qemu_vm *q, const void *file, size_t bytes, struct err *err)
{
	mem_free(q->elf);
	q->elf = mem_alloc(bytes);
	if (!q->elf)
		return err_set(err, -ENOMEM, "no memory for the guest's image");
	memcpy(q->elf, file, bytes);
	q->elf_bytes = bytes;
	return 0;
}

static int qemu_load(struct vm *vm, const struct guest_image *image, struct err *err)
{
	const char *name = image->path ? image->path : image->name;
	struct qemu_vm *q = to_qemu(vm);
	struct elf_image elf;
	void *owned = NULL;
	const void *file = NULL;
	size_t bytes = 0;
	int ret;

	if (q->domain.handle)
		return err_set(err, -EBUSY, "the domain has a guest already; load another into a new VM");
	ret = elf_find_image(image, &file, &bytes, &owned, err);
	ret = ret ?: elf_parse(name, file, bytes, &elf, err);
	if (!ret && !elf.pvh_entry)
		ret = err_set(err, -ENOEXEC,
			      "%s: no PVH note, so QEMU cannot boot it: link with this tain's libtain-guest.a", name);
	ret = ret ?: keep_elf(q, file, bytes, err);
	ret = ret ?: qemu_domain_start(vm, &q->domain, NULL, NULL, err);
	if (!ret) {
		qemu_lost_watch(vm);
		ret = give_shared(vm, err);
		ret = ret ?: qemu_map_memory(vm, &q->domain, err);
	}
	if (ret && q->domain.handle) {
		qemu_domain_end(q, &q->domain);
		qemu_lost_forget(vm);
	}
	mem_free(owned);
	return ret;
}

static void qemu_stats(struct vm *vm, struct vm_stats *stats)
{
	(void)vm;
	*stats = (struct vm_stats){ 0 }; /* KVM's own belong to QEMU's descriptors */
}

/* --- vCPUs -------------------------------------------------------------------------------------------- */

static inline struct qemu_vcpu *to_qemu_vcpu(struct vcpu *vcpu)
{
	return container_of(vcpu, struct qemu_vcpu, vcpu);
}

static void qemu_vcpu_destroy(struct vcpu *vcpu)
{
	struct qemu_vcpu *v = to_qemu_vcpu(vcpu);

	if (v->kick >= 0)
		close(v->kick);
	mem_free(v);
}

static int qemu_vcpu_create(struct vm *vm, u32 id, struct vcpu **vcpu, struct err *err)
{
	struct qemu_vcpu *v = mem_zalloc(sizeof(*v));

	if (!v)
		return err_set(err, -ENOMEM, "no memory for vcpu %u", id);
	v->vcpu.vm = vm;
	v->vcpu.id = id;
	v->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->kick < 0) {
		int ret = err_set(err, -errno, "vcpu %u: eventfd: %s", id, strerror(errno));

		qemu_vcpu_destroy(&v->vcpu);
		return ret;
	}
	*vcpu = &v->vcpu;
	return 0;
}

static void qemu_vcpu_kick(struct vcpu *vcpu)
{
	u64 one = 1;
	ssize_t n = write(to_qemu_vcpu(vcpu)->kick, &one, sizeof(one));

	(void)n; /* full: kicked already */
}

/*
 * All processors of the domain run at once. A short guest has turned QEMU off before
 * libvirt has read QEMU's answer, and calls that an error: look() knows better.
 */
static int go(struct qemu_vm *q, struct err *err)
{
	struct pollfd p = { .fd = q->domain.pidfd, .events = POLLIN };

	if (xchg(&q->started, 1) || !virt->virDomainResume(q->domain.handle))
		return 0;
	virt_error(err, q->domain.name);
	return poll(&p, 1, SHORT_GUEST_MS) > 0 ? 0 : -EIO;
}

enum look { LOOK_ON, LOOK_LEAVE, LOOK_ENDED };

/* What the guest's serial line holds. Return: LOOK_ENDED: its other end is closed. */
static enum look read_console(struct qemu_vcpu *v)
{
	struct qemu_domain *d = &to_qemu(v->vcpu.vm)->domain;
	char text[512];
	ssize_t n;

	while ((n = read(d->console, text, sizeof(text))) > 0)
		if (!console_text(&v->text, &v->vcpu, text, (size_t)n))
			return LOOK_LEAVE;
	return !n || (errno != EAGAIN && errno != EINTR) ? LOOK_ENDED : LOOK_ON;
}

static enum look report(struct qemu_vcpu *v, const struct vcpu_exit *exit)
{
	if (!console_flush(&v->text, &v->vcpu))
		return LOOK_LEAVE;
	return vcpu_report(&v->vcpu, exit) ? LOOK_ON : LOOK_LEAVE;
}

static enum look report_loss(struct qemu_vcpu *v)
{
	struct vcpu_exit exit = { .reason = VCPU_EXIT_CRASH };

	err_set(&exit.err, -EIO, "the file behind the guest's memory was truncated");
	report(v, &exit);
	return LOOK_LEAVE;
}

static enum look report_death(struct qemu_vcpu *v)
{
	const struct qemu_vm *q = to_qemu(v->vcpu.vm);
	const struct qemu_domain *d = &q->domain;
	struct vcpu_exit exit = { .reason = VCPU_EXIT_CRASH };
	u64 since = clock_ns();
	char lines[270] = "";

	/* What QEMU has said last goes through virtlogd. */
	while (!q->unrestored.text[0] && !qemu_domain_log(q, d, lines, sizeof(lines)) && clock_ns() - since < LOG_NS)
		thread_sleep_ns(LOOK_MS * NSEC_PER_MSEC);
	if (q->unrestored.text[0])
		err_set(&exit.err, -EIO, "the domain was saved and does not come back: %.240s", q->unrestored.text);
	else
		err_set(&exit.err, -EIO, "QEMU (%d) ended before its guest%s%s", d->pid, lines[0] ? ": " : "", lines);
	report(v, &exit);
	return LOOK_LEAVE;
}

/*
 * Between a save and its restore no process has the domain, which has not died.
 *
 *   here                        the thread that saves
 *   moves is even
 *                               moves is odd; saved, its QEMU ends
 *   poll: it has ended
 *                               restored, the pidfd is the new one's; moves is even
 *   moves is another: that was the old one
 */
static bool died(const struct qemu_vm *q)
{
	u32 moves = smp_load_acquire(&q->moves);
	bool ended = qemu_process_ended(&q->domain);

	return ended && !(moves & 1) && smp_load_acquire(&q->moves) == moves;
}

/* vCPU 0 stays until every text has come: its machine is off then, or says nothing more. */
static enum look look(struct qemu_vcpu *v, u64 *ended_at)
{
	struct vm *vm = v->vcpu.vm;
	const struct guest_vcpu *gv = vm_guest_vcpu(vm, v->vcpu.id);
	bool dead = died(to_qemu(vm)); /* before what it has left is read */
	enum look text = v->vcpu.id ? LOOK_ENDED : read_console(v);
	struct vcpu_exit exit = { .reason = VCPU_EXIT_DONE };

	if (text == LOOK_LEAVE)
		return text;
	if (qemu_lost(vm))
		return report_loss(v);
	if (!smp_load_acquire(&gv->ended)) /* pairs with the store at a guest's end: its exit_code is there */
		return dead ? report_death(v) : LOOK_ON;
	if (!*ended_at)
		*ended_at = clock_ns();
	if (text != LOOK_ENDED && !dead && (!all_ended(vm) || clock_ns() - *ended_at < LAST_WORDS_NS))
		return LOOK_ON;
	exit.code = (u32)READ_ONCE(gv->exit_code);
	report(v, &exit);
	return LOOK_LEAVE;
}

static int qemu_vcpu_run(struct vcpu *vcpu, vcpu_exit_fn *fn, void *arg, struct err *err)
{
	struct qemu_vcpu *v = to_qemu_vcpu(vcpu);
	const struct qemu_domain *d = &to_qemu(vcpu->vm)->domain;
	struct pollfd p[] = {
		{ .fd = v->kick, .events = POLLIN },
		{ .fd = d->pidfd, .events = POLLIN },
		{ .fd = d->console, .events = POLLIN },
	};
	int ret = go(to_qemu(vcpu->vm), err);
	enum look next = LOOK_ON;
	u64 kicks, ended_at = 0;

	(void)fn;
	(void)arg;
	while (!ret && next == LOOK_ON) {
		poll(p, vcpu->id ? 2 : 3, LOOK_MS);
		if (smp_load_acquire(&to_qemu(vcpu->vm)->moves) & 1)
			poll(p, 1, LOOK_MS); /* the others say that QEMU has ended */
		if (read(v->kick, &kicks, sizeof(kicks)) > 0)
			next = report(v, &(struct vcpu_exit){ .reason = VCPU_EXIT_KICK });
		if (next == LOOK_ON)
			next = look(v, &ended_at);
	}
	console_flush(&v->text, vcpu);
	return ret;
}

const struct engine engine_qemu = {
	.name = "qemu",
	.summary = "a libvirt domain: QEMU's process, KVM's second MMU or TCG",
	.needs = "libvirt and QEMU",
	.own_mm = false,
	.outside = true,
	.probe = qemu_probe,
	.create = qemu_create,
	.destroy = qemu_destroy,
	.abandon = qemu_abandon,
	.identify = qemu_identify,
	.set_memory = qemu_set_memory,
	.load = qemu_load,
	.vcpu_create = qemu_vcpu_create,
	.vcpu_destroy = qemu_vcpu_destroy,
	.vcpu_run = qemu_vcpu_run,
	.vcpu_kick = qemu_vcpu_kick,
	.stats = qemu_stats,
	.look_outside = qemu_look_outside,
	.control = qemu_control,
	.balloon = qemu_give,
	.audit = NULL,
};
