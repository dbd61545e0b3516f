/* SPDX-License-Identifier: MIT */
/* A figure for people: measured, the peer's, their ratio, its bound, and a verdict. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lab/result/figure.h"

#define NOTE_COLUMNS 116

static void range(const double *v, u32 n, double *low, double *high)
{
	*low = *high = n ? v[0] : 0;
	for (u32 i = 1; i < n; i++) {
		*low = min(*low, v[i]);
		*high = max(*high, v[i]);
	}
}

static void number(char *text, size_t n, double v)
{
	if (v >= 10000)
		snprintf(text, n, "%s", cmd_count((u64)(v + 0.5)));
	else if (v >= 100)
		snprintf(text, n, "%.0f", v);
	else
		snprintf(text, n, "%.2f", v);
}

static void print_measured(const char *label, const struct figure *f, const double *values)
{
	char median[32], low_text[32], high_text[32];
	double low, high;

	range(values, f->rounds, &low, &high);
	number(median, sizeof(median), figure_median(f, values));
	number(low_text, sizeof(low_text), low);
	number(high_text, sizeof(high_text), high);
	fprintf(cmd_out, "    %-34s %12s %-3s (%s to %s)\n", label, median, f->unit, low_text, high_text);
}

/* A clause that does not fit into the line begins another. */
static void print_note(const char *note)
{
	while (strlen(note) > NOTE_COLUMNS) {
		size_t fits = 0;

		for (size_t i = 0; i < NOTE_COLUMNS; i++)
			if (note[i] == ';')
				fits = i + 1;
		if (!fits || note[fits] != ' ')
			break;
		fprintf(cmd_out, "    %.*s\n", (int)fits, note);
		note += fits + 1;
	}
	if (*note)
		fprintf(cmd_out, "    %s\n", note);
}

bool cmd_print_figure(const struct figure *f)
{
	bool compared = f->peer && !f->skip[0];
	char bound[32], measured[32];

	fprintf(cmd_out, "\n%s: %s\n", f->name, f->what);
	if (!f->rounds) {
		fprintf(cmd_out, "    not measured%s%s\n", f->skip[0] ? ": " : "", f->skip);
		return true;
	}
	print_measured("measured", f, f->value);
	if (f->skip[0]) {
		fprintf(cmd_out, "    not compared: %s\n", f->skip);
		return true;
	}
	if (compared)
		print_measured(f->peer, f, f->other);
	print_note(f->note);
	if (!f->bound)
		return true;
	number(bound, sizeof(bound), f->bound);
	number(measured, sizeof(measured), figure_measure(f));
	fprintf(cmd_out, "    %-34s %12s %-3s must be at %s %s: ", compared ? "ratio" : "figure", measured,
		compared ? "" : f->unit, f->at_most ? "most" : "least", bound);
	cmd_print_colored(cmd_out, figure_met(f) ? CMD_GREEN : CMD_RED, figure_met(f) ? "reached" : "missed");
	fputc('\n', cmd_out);
	return figure_met(f);
}
