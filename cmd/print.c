/* SPDX-License-Identifier: MIT */
/* Text for people: numbers, colours, bars, violations, progress. */
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "lib/time.h"

#define TEXTS 16
#define TEXT_BYTES 40
#define BAR_COLUMNS 40
#define HEARTBEAT_NS (10 * NSEC_PER_SEC)
#define UPDATE_NS (200 * NSEC_PER_MSEC)

static char *next_text(void)
{
	static char texts[TEXTS][TEXT_BYTES]; /* the main thread prints */
	static unsigned int next;

	return texts[next++ % TEXTS];
}

const char *cmd_count(u64 n)
{
	char *text = next_text(), *to = text + TEXT_BYTES - 1;
	unsigned int digits = 0;

	*to = 0;
	do {
		if (digits && digits % 3 == 0)
			*--to = ',';
		*--to = '0' + n % 10;
		digits++;
		n /= 10;
	} while (n);
	return to;
}

const char *cmd_percentile(const struct hist *h, double p)
{
	return hist_tells(h, p) ? cmd_count(hist_percentile(h, p)) : "-";
}

const char *cmd_rate(double r)
{
	char *text = next_text();

	if (r >= 1e9)
		snprintf(text, TEXT_BYTES, "%.2f G", r / 1e9);
	else if (r >= 1e6)
		snprintf(text, TEXT_BYTES, "%.2f M", r / 1e6);
	else if (r >= 1e4)
		snprintf(text, TEXT_BYTES, "%.1f k", r / 1e3);
	else
		snprintf(text, TEXT_BYTES, "%.0f", r);
	return text;
}

const char *cmd_bytes(u64 bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	char *text = next_text();
	unsigned int i = 0;

	while (bytes && bytes % 1024 == 0 && i + 1 < ARRAY_SIZE(units)) {
		bytes /= 1024;
		i++;
	}
	snprintf(text, TEXT_BYTES, "%llu %s", (unsigned long long)bytes, units[i]);
	return text;
}

const char *cmd_seconds(u64 ns)
{
	char *text = next_text();

	snprintf(text, TEXT_BYTES, "%.1f s", (double)ns / 1e9);
	return text;
}

void cmd_print_identity(FILE *out, const char *command, const struct machine_identity *id, u64 seed)
{
	fprintf(out, "tain %s: engine %s, MMU %s, host mm %s, CPU %s%s%s, seed %llu\n", command, id->engine, id->mmu,
		id->host_mm, id->cpu, id->under[0] ? ", guest under " : "", id->under[0] ? id->under : "",
		(unsigned long long)seed);
	fflush(out);
}

void cmd_print_colored(FILE *out, enum cmd_color color, const char *text)
{
	const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
	bool plain = (none && *none) || !isatty(fileno(out)) || !term || !strcmp(term, "dumb");

	if (plain)
		fputs(text, out);
	else
		fprintf(out, "\033[%dm%s\033[0m", color, text);
}

/* --- bars ------------------------------------------------------------------------- */

static bool utf8_terminal(void)
{
	return setlocale(LC_CTYPE, "") && !strcmp(nl_langinfo(CODESET), "UTF-8");
}

static void print_bar(FILE *out, double part, bool utf8)
{
	static const char *const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
	unsigned int units = (unsigned int)(part * BAR_COLUMNS * 8 + 0.5);

	if (!units && part > 0)
		units = 1;
	if (!utf8) {
		for (unsigned int i = 0; i < (units + 7) / 8; i++)
			fputc('#', out);
		return;
	}
	for (; units >= 8; units -= 8)
		fputs("█", out);
	fputs(eighths[units], out);
}

struct bars {
	u64 start[33]; /* bin i is [start[i], start[i + 1]) */
	u64 count[32];
	unsigned int nr;
};

/* By bisection: bars need no libm. @x is at least 1. */
static double nth_root(double x, unsigned int n)
{
	double low = 1, high = x;

	for (int i = 0; i < 60; i++) {
		double mid = (low + high) / 2, power = 1;

		for (unsigned int j = 0; j < n; j++)
			power *= mid;
		if (power > x)
			high = mid;
		else
			low = mid;
	}
	return low;
}

/* Bins of equal width in the logarithm, without the outermost tails; the first and last bin take those. */
static void make_bars(const struct hist *hist, unsigned int lines, struct bars *bars)
{
	u64 low = max(hist_percentile(hist, 0.1), (u64)1), high = hist_percentile(hist, 99.5) + 1;
	u64 lo, hi, count;
	size_t pos = 0;
	double step;

	memset(bars, 0, sizeof(*bars));
	bars->nr = min(lines, (unsigned int)ARRAY_SIZE(bars->count));
	high = max(high, low + bars->nr);
	step = nth_root((double)high / (double)low, bars->nr);
	bars->start[0] = low;
	for (unsigned int i = 0; i < bars->nr; i++)
		bars->start[i + 1] = max((u64)((double)bars->start[i] * step + 0.5), bars->start[i] + 1);
	while (hist_next_bucket(hist, &pos, &lo, &hi, &count)) {
		unsigned int bin = 0;

		while (bin + 1 < bars->nr && lo >= bars->start[bin + 1])
			bin++;
		bars->count[bin] += count;
	}
}

void cmd_print_histogram(FILE *out, const char *title, const struct hist *hist, unsigned int lines)
{
	bool utf8 = utf8_terminal();
	struct bars bars;
	u64 most = 1;

	if (!hist_count(hist))
		return;
	make_bars(hist, lines, &bars);
	for (unsigned int i = 0; i < bars.nr; i++)
		most = max(most, bars.count[i]);
	fprintf(out, "\n%s, %s (%s samples)\n", title, cycles_unit_name(), cmd_count(hist_count(hist)));
	for (unsigned int i = 0; i < bars.nr; i++) {
		double part = (double)bars.count[i] / (double)hist_count(hist);

		fprintf(out, "  %s%10s  %5.1f %%  ",
			i + 1 < bars.nr ? " "
			: utf8		? "≥"
					: ">",
			cmd_count(bars.start[i]), part * 100);
		print_bar(out, (double)bars.count[i] / (double)most, utf8);
		fputc('\n', out);
	}
}

/* --- violations ---------------------------------------------------------------------- */

static void print_trace(FILE *out, const char *trace)
{
	while (trace && *trace) {
		size_t len = strcspn(trace, "\n");

		fprintf(out, "    %.*s\n", (int)len, trace);
		trace += len + (trace[len] != 0);
	}
}

static bool of_a_guest(const struct violation *v)
{
	return v->kind <= VIOLATION_LOST || v->kind == VIOLATION_CONTENT;
}

void cmd_print_violation(FILE *out, u64 number, const struct violation *v)
{
	fprintf(out, "\nviolation %llu: ", (unsigned long long)number);
	cmd_print_colored(out, CMD_RED, violation_name(v->kind));
	fprintf(out, ": %s\n ", violation_summary(v->kind));
	if (v->page != VIOLATION_NO_PAGE)
		fprintf(out, " page %llu", (unsigned long long)v->page);
	if (v->vcpu != VIOLATION_NO_VCPU)
		fprintf(out, " vCPU %u", v->vcpu);
	if (v->step != VIOLATION_NO_STEP)
		fprintf(out, " operation %s step %llu", plan_op_name(v->op), (unsigned long long)v->step);
	fprintf(out, " seed %llu\n", (unsigned long long)v->seed);
	if (of_a_guest(v) && v->kind != VIOLATION_LOST && v->seen && guest_stamp_valid(v->seen))
		fprintf(out, "  seen: the stamp of page %llu, generation %u; allowed: %u to %u%s\n",
			(unsigned long long)guest_stamp_page(v->seen), guest_stamp_generation(v->seen),
			v->required >> 1, v->announced, v->required & 1 ? ", or zeros" : "");
	else if (of_a_guest(v) && v->kind != VIOLATION_LOST)
		fprintf(out, "  seen: %#llx; allowed: generations %u to %u%s\n", (unsigned long long)v->seen,
			v->required >> 1, v->announced, v->required & 1 ? ", or zeros" : "");
	else if (v->seen || v->expected)
		fprintf(out, "  seen: %#llx; expected: %#llx\n", (unsigned long long)v->seen,
			(unsigned long long)v->expected);
	if (v->text[0])
		fprintf(out, "  %s\n", v->text);
	if (v->trace)
		fprintf(out, "  the last events of each thread:\n");
	print_trace(out, v->trace);
}

/* --- progress -------------------------------------------------------------------------- */

void cmd_progress_init(struct cmd_progress *p, bool quiet)
{
	*p = (struct cmd_progress){ .quiet = quiet, .tty = isatty(STDERR_FILENO), .last_ns = clock_ns() };
}

bool cmd_progress_due(struct cmd_progress *p)
{
	u64 now = clock_ns();

	if (p->quiet || now - p->last_ns < (p->tty ? UPDATE_NS : HEARTBEAT_NS))
		return false;
	p->last_ns = now;
	return true;
}

void cmd_progress_show(struct cmd_progress *p, const char *fmt, ...)
{
	va_list args;

	if (p->tty)
		fputs("\r\033[K", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	if (!p->tty)
		fputc('\n', stderr);
	p->shown = true;
	fflush(stderr);
}

void cmd_progress_end(struct cmd_progress *p)
{
	if (p->shown && p->tty)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
