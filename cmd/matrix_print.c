/* SPDX-License-Identifier: MIT */
/* tain matrix for people and for TAP readers. */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/matrix.h"

#define COLUMNS 120

static const char *percent_text(s64 percent, const char *none, const char *all, char *text)
{
	if (percent == MATRIX_UNKNOWN)
		snprintf(text, 16, "?");
	else if (percent == 0 || percent == 100)
		snprintf(text, 16, "%s", percent ? all : none);
	else
		snprintf(text, 16, "%lld%%", (long long)percent);
	return text;
}

const char *matrix_freed_text(const struct matrix_cell *c, char *text)
{
	if (c->swapped >= 50)
		return strcpy(text, c->freed == MATRIX_UNKNOWN || c->freed >= c->swapped / 4 ? "to swap" : "cached");
	if (c->lazy >= 50 && c->freed <= 0)
		return strcpy(text, "lazily");
	return percent_text(c->freed, "none", "all", text);
}

const char *matrix_moved_text(const struct matrix_cell *c, char *text)
{
	return percent_text(c->moved, "same", "new", text);
}

const char *matrix_number_text(s64 n, char *text)
{
	if (n == MATRIX_UNKNOWN)
		return strcpy(text, "?");
	snprintf(text, 16, "%lld", (long long)n);
	return text;
}

const char *matrix_cost_text(const struct matrix_cost *cost, s64 ns, char *text)
{
	if (!cost->count)
		return strcpy(text, "?");
	if (ns == MATRIX_UNKNOWN)
		return strcpy(text, "-");
	snprintf(text, 16, ns < 1000000 ? "%.2f" : "%.1f", (double)ns / 1000);
	return text;
}

/* --- the table -------------------------------------------------------------------------------- */

static const char row_format[] = "  %-21s %-6s %-9s %-7s %-5s %-11s %6s %6s %7s %8s %7s %8s\n";

static void print_reason(FILE *out, const struct matrix_cell *c)
{
	char line[512];

	snprintf(line, sizeof(line), "  %-21s %s: %s", host_backing_table[c->backing].name, matrix_state_name(c->state),
		 c->why);
	if (strlen(line) > COLUMNS)
		strcpy(line + COLUMNS - 3, "...");
	fprintf(out, "%s\n", line);
}

static void print_row(FILE *out, const struct matrix_cell *c)
{
	char t[8][16], events[40];

	if (!matrix_has_columns(c)) {
		print_reason(out, c);
		return;
	}
	fprintf(out, row_format, host_backing_table[c->backing].name,
		c->during == SIGHT_UNKNOWN ? "-" : matrix_sight_name(c->during), matrix_sight_name(c->after),
		matrix_freed_text(c, t[0]), matrix_moved_text(c, t[1]),
		c->events == MATRIX_UNKNOWN ? "?" : matrix_events_text(c->events, events),
		matrix_number_text(c->zapped, t[2]), matrix_number_text(c->ranges, t[3]),
		matrix_cost_text(&c->read, (s64)c->read.p50, t[4]), matrix_cost_text(&c->read, c->read.p99, t[5]),
		matrix_cost_text(&c->write, (s64)c->write.p50, t[6]), matrix_cost_text(&c->write, c->write.p99, t[7]));
	if (c->state == MATRIX_WRONG)
		print_reason(out, c);
}

/* Of each backing that userfaultfd does not take: once. */
static void print_uffd(FILE *out, const struct matrix_result *r)
{
	u32 told = 0;

	for (u32 i = 0; i < r->nr; i++) {
		const struct matrix_cell *c = &r->cell[i];

		if (!c->events_why[0] || told & BIT(c->backing))
			continue;
		told |= BIT(c->backing);
		fprintf(out, "skipped: uffd events on %s: %s\n", host_backing_table[c->backing].name, c->events_why);
	}
}

static void print_costs(FILE *out, const struct matrix_result *r)
{
	for (u32 i = 0; i < r->nr; i++) {
		const struct matrix_cell *c = &r->cell[i];

		if (c->cost_why[0])
			fprintf(out, "skipped: read and write after %s on %s: %s\n", op_table[c->op].name,
				host_backing_table[c->backing].name, c->cost_why);
	}
}

const char *matrix_summary(const struct matrix_result *r, char *text)
{
	char of[24] = "";

	if (r->nr < r->planned)
		snprintf(of, sizeof(of), " of %u", r->planned);
	snprintf(text, 160, "%u%s cells: %u done, %u refused, %u skipped, %u wrong, %u failed", r->nr, of,
		 r->states[MATRIX_DONE], r->states[MATRIX_REFUSED], r->states[MATRIX_SKIPPED], r->states[MATRIX_WRONG],
		 r->states[MATRIX_FAILED]);
	return text;
}

void matrix_print_table(FILE *out, const struct matrix_result *r)
{
	char summary[160];

	if (r->ran)
		fprintf(out, "tain matrix: engine %s, MMU %s, host mm %s, CPU %s\n\n", r->id.engine, r->id.mmu,
			r->id.host_mm, r->id.cpu);
	fprintf(out, row_format, "", "", "", "", "", "", "pages", "", "read", "us", "write", "us");
	fprintf(out, row_format, "", "during", "sees", "freed", "frame", "uffd event", "zapped", "ranges", "p50", "p99",
		"p50", "p99");
	for (u32 i = 0; i < r->nr; i++) {
		const struct matrix_cell *c = &r->cell[i];

		if (!i || c[-1].op != c->op)
			fprintf(out, "%s: %s\n", op_table[c->op].name, op_table[c->op].summary);
		print_row(out, c);
	}
	fprintf(out, "\nduring: a guest access between the operation and its undoing   sees: what the guest finds in "
		     "the end\n"
		     "frame: where the range's pages stand once the guest has used them again   ?: not known here\n"
		     "read, write: a guest access that is the first to its neighbourhood after the operation\n\n");
	for (u32 i = 0; i < r->skips; i++)
		fprintf(out, "skipped: %s: %s\n", r->skip[i].what, r->skip[i].why);
	print_uffd(out, r);
	print_costs(out, r);
	fprintf(out, "%s; %s\n", matrix_summary(r, summary), cmd_seconds(r->elapsed_ns));
}

/* --- TAP -------------------------------------------------------------------------------------- */

static void tap_cell(FILE *out, u32 number, const struct matrix_cell *c)
{
	bool bad = c->state == MATRIX_WRONG || c->state == MATRIX_FAILED;
	char freed[16], moved[16], events[40];

	fprintf(out, "%s %u - %s on %s", bad ? "not ok" : "ok", number, op_table[c->op].name,
		host_backing_table[c->backing].name);
	if (matrix_has_columns(c))
		fprintf(out, ": guest sees %s, freed %s, frames %s, uffd %s", matrix_sight_name(c->after),
			matrix_freed_text(c, freed), matrix_moved_text(c, moved),
			matrix_events_text(c->events, events));
	if (c->state == MATRIX_REFUSED || c->state == MATRIX_SKIPPED)
		fprintf(out, " # SKIP %s: %s", matrix_state_name(c->state), c->why);
	fputc('\n', out);
	if (bad)
		fprintf(out, "  ---\n  message: \"%s: %s\"\n  ...\n", matrix_state_name(c->state), c->why);
}

void matrix_print_tap(FILE *out, const struct matrix_result *r, const char *bail)
{
	fprintf(out, "TAP version 13\n1..%u\n", r->planned);
	if (r->ran)
		fprintf(out, "# engine %s, MMU %s, host mm %s\n", r->id.engine, r->id.mmu, r->id.host_mm);
	for (u32 i = 0; i < r->nr; i++)
		tap_cell(out, i + 1, &r->cell[i]);
	if (bail)
		fprintf(out, "Bail out! %s\n", bail);
}
