/* SPDX-License-Identifier: MIT */
/* tain/guest.h: text, formatting, exit and arguments, in both builds. */
#include <stdarg.h>

#include "guest/workload.h"

#ifndef GUEST_NATIVE
#include "guest/rt/boot.h"
#endif

static void guest_out(struct guest *g, const char *text, uint64_t bytes)
{
#ifdef GUEST_NATIVE
	guest_native_text(g, text, bytes);
#else
	if (guest_boot_shared) {
		guest_boot_text(g, text, bytes);
		return;
	}
	__asm__ __volatile__("rep outsb" : "+S"(text), "+c"(bytes) : "d"((uint16_t)GUEST_PORT_TEXT) : "memory");
#endif
}

void guest_exit(struct guest *g, int code)
{
#ifdef GUEST_NATIVE
	guest_native_exit(g, code);
#else
	if (guest_boot_shared)
		guest_boot_exit(g, code);
	for (;;)
		__asm__ __volatile__("outl %0, %1" : : "a"(code), "Nd"((uint16_t)GUEST_PORT_EXIT) : "memory");
#endif
}

void guest_text(struct guest *g, const char *text)
{
	uint64_t bytes = 0;

	while (text[bytes])
		bytes++;
	if (bytes)
		guest_out(g, text, bytes);
}

struct text_sink {
	struct guest *g;
	uint32_t used;
	char text[128];
};

static void sink_char(struct text_sink *sink, char c)
{
	sink->text[sink->used++] = c;
	if (sink->used == sizeof(sink->text)) {
		guest_out(sink->g, sink->text, sink->used);
		sink->used = 0;
	}
}

struct text_spec {
	int left, zero;
	uint32_t width;
};

/* @body behind @sign, padded to the width. */
static void sink_field(struct text_sink *sink, const struct text_spec *spec, const char *sign, const char *body,
		       uint32_t bytes)
{
	uint32_t sign_bytes = 0, pad;

	while (sign[sign_bytes])
		sign_bytes++;
	pad = spec->width > bytes + sign_bytes ? spec->width - bytes - sign_bytes : 0;
	if (!spec->left && !spec->zero)
		for (; pad; pad--)
			sink_char(sink, ' ');
	for (; *sign; sign++)
		sink_char(sink, *sign);
	if (!spec->left)
		for (; pad; pad--)
			sink_char(sink, '0');
	for (; bytes; bytes--)
		sink_char(sink, *body++);
	for (; pad; pad--)
		sink_char(sink, ' ');
}

static void sink_number(struct text_sink *sink, const struct text_spec *spec, const char *sign, uint64_t value,
			uint32_t base)
{
	char digits[20], *at = digits + sizeof(digits);

	do {
		*--at = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	sink_field(sink, spec, sign, at, (uint32_t)(digits + sizeof(digits) - at));
}

static const char *parse_spec(const char *format, struct text_spec *spec, int *wide)
{
	*spec = (struct text_spec){ 0 };
	*wide = 0;
	for (;; format++) {
		if (*format == '-')
			spec->left = 1;
		else if (*format == '0')
			spec->zero = 1;
		else
			break;
	}
	for (; *format >= '0' && *format <= '9'; format++)
		spec->width = spec->width * 10 + (uint32_t)(*format - '0');
	for (; *format == 'l' || *format == 'z'; format++)
		*wide = 1;
	return format;
}

static void sink_string(struct text_sink *sink, struct text_spec *spec, const char *text)
{
	uint32_t bytes = 0;

	text = text ? text : "(null)";
	while (text[bytes])
		bytes++;
	spec->zero = 0;
	sink_field(sink, spec, "", text, bytes);
}

void guest_printf(struct guest *g, const char *format, ...)
{
	struct text_sink sink = { .g = g };
	struct text_spec spec;
	va_list args;
	int64_t number;
	char c;
	int wide;

	va_start(args, format);
	for (; *format; format++) {
		if (*format != '%') {
			sink_char(&sink, *format);
			continue;
		}
		format = parse_spec(format + 1, &spec, &wide);
		switch (*format) {
		case 'c':
			c = (char)va_arg(args, int);
			sink_field(&sink, &(struct text_spec){ .left = spec.left, .width = spec.width }, "", &c, 1);
			break;
		case 's':
			sink_string(&sink, &spec, va_arg(args, const char *));
			break;
		case 'd':
		case 'i':
			number = wide ? va_arg(args, long) : va_arg(args, int);
			sink_number(&sink, &spec, number < 0 ? "-" : "",
				    number < 0 ? -(uint64_t)number : (uint64_t)number, 10);
			break;
		case 'u':
			sink_number(&sink, &spec, "", wide ? va_arg(args, uint64_t) : va_arg(args, uint32_t), 10);
			break;
		case 'x':
			sink_number(&sink, &spec, "", wide ? va_arg(args, uint64_t) : va_arg(args, uint32_t), 16);
			break;
		case 'p':
			sink_number(&sink, &spec, "0x", (uint64_t)(uintptr_t)va_arg(args, void *), 16);
			break;
		case '\0':
			format--;
			break;
		default:
			sink_char(&sink, *format);
		}
	}
	va_end(args);
	if (sink.used)
		guest_out(g, sink.text, sink.used);
}

static uint64_t parse_number(const char *text)
{
	uint64_t value = 0, base = 10;

	if (text[0] == '0' && (text[1] | 0x20) == 'x') {
		base = 16;
		text += 2;
	}
	for (;; text++) {
		uint32_t digit = (uint32_t)(*text - '0');

		if (digit > 9)
			digit = (uint32_t)((*text | 0x20) - 'a') + 10;
		if (digit >= base)
			return value;
		value = value * base + digit;
	}
}

uint64_t guest_option(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 0; i < argc; i++) {
		uint32_t at = 0;

		while (name[at] && argv[i][at] == name[at])
			at++;
		if (!name[at] && argv[i][at] == '=')
			return parse_number(argv[i] + at + 1);
	}
	return otherwise;
}

int guest_setup(struct guest *g, struct guest_shared *shared, uint32_t vcpu, char **argv)
{
	uint32_t argc = shared->argc < GUEST_MAX_ARGS ? shared->argc : GUEST_MAX_ARGS;

	*g = (struct guest){
		.id = vcpu,
		.vcpus = shared->vcpus,
		.data_base = shared->data_base,
		.data_bytes = shared->data_bytes,
		.tsc_khz = shared->tsc_khz,
		.seed = shared->seed,
		.stop = &shared->stop,
		.shared = shared,
		.vcpu = (struct guest_vcpu *)((char *)shared + shared->vcpu_offset) + vcpu,
	};
	g->target = &g->vcpu->target;
	for (uint32_t i = 0; i < argc; i++)
		argv[i] = shared->args + shared->arg_offset[i] % GUEST_ARGS_BYTES;
	argv[argc] = NULL;
	return (int)argc;
}
