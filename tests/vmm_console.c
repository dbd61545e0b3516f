/* SPDX-License-Identifier: MIT */
/* Ports and lines, without a guest: a vCPU that is nothing but a handler. */
#include <string.h>

#include "tests/vmm_suites.h"
#include "vmm/console.h"

struct heard {
	struct vcpu vcpu;
	struct vcpu_exit last;
	char text[1024];
	size_t bytes;
	u32 calls;
	bool answer;
};

static bool hear(struct vcpu *vcpu, const struct vcpu_exit *exit, void *arg)
{
	struct heard *h = arg;

	CHECK_PTR_EQ(vcpu, &h->vcpu);
	h->last = *exit;
	h->calls++;
	if (exit->reason == VCPU_EXIT_TEXT) {
		memcpy(h->text + h->bytes, exit->data, exit->bytes);
		h->bytes += exit->bytes;
		h->text[h->bytes] = '\0';
	}
	return h->answer;
}

static void heard_init(struct heard *h)
{
	*h = (struct heard){ .vcpu = { .id = 3, .fn = hear, .arg = h }, .answer = true };
}

static void ports(void)
{
	u32 code = 0x12345678;
	struct heard h;

	heard_init(&h);
	CHECK(vm_port_out(&h.vcpu, GUEST_PORT_TEXT, "abc", 1, 3));
	CHECK_STR(h.text, "abc");
	CHECK(vm_port_out(&h.vcpu, GUEST_PORT_BYTES, "de", 1, 2));
	CHECK_STR(h.text, "abcde");
	CHECK(!vm_port_out(&h.vcpu, GUEST_PORT_EXIT, &code, 4, 1));
	CHECK_EQ(h.last.reason, VCPU_EXIT_DONE);
	CHECK_EQ(h.last.code, 0x12345678);
	CHECK(!vm_port_out(&h.vcpu, GUEST_PORT_EXIT, &code, 1, 1));
	CHECK_EQ(h.last.code, 0x78);
	CHECK(vm_port_out(&h.vcpu, 0x80, &code, 2, 1));
	CHECK_EQ(h.last.reason, VCPU_EXIT_CRASH);
	CHECK_CONTAINS(h.last.err.text, "0x80");
	CHECK(vm_port_out(&h.vcpu, GUEST_PORT_TEXT, &code, 4, 1));
	CHECK_EQ(h.last.reason, VCPU_EXIT_CRASH);
	h.answer = false;
	CHECK(!vm_port_out(&h.vcpu, GUEST_PORT_TEXT, "f", 1, 1));
}

static void lines(void)
{
	struct console console = { 0 };
	struct heard h;

	heard_init(&h);
	for (const char *c = "one\ntwo\nthr"; *c; c++)
		CHECK(console_text(&console, &h.vcpu, c, 1));
	CHECK_STR(h.text, "one\ntwo\n");
	CHECK_EQ(h.calls, 2);
	CHECK(console_flush(&console, &h.vcpu));
	CHECK_STR(h.text, "one\ntwo\nthr");
	CHECK(console_flush(&console, &h.vcpu));
	CHECK_EQ(h.calls, 3);
	h.answer = false;
	CHECK(!console_text(&console, &h.vcpu, "a\nb", 3));
	CHECK_EQ(console.used, 1);
}

static void long_line(void)
{
	struct console console = { 0 };
	char line[CONSOLE_LINE_BYTES + 10];
	struct heard h;

	heard_init(&h);
	memset(line, 'x', sizeof(line));
	CHECK(console_text(&console, &h.vcpu, line, sizeof(line)));
	CHECK_EQ(h.calls, 1);
	CHECK_EQ(h.bytes, CONSOLE_LINE_BYTES);
	CHECK_EQ(console.used, 10);
}

const struct test_case vmm_console_tests[] = { TEST(ports), TEST(lines), TEST(long_line), TEST_END };
