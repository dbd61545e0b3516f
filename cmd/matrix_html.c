/* SPDX-License-Identifier: MIT */
/* tain matrix as a page that needs nothing else. */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/matrix.h"

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>tain "
	"matrix</title>\n<style>\n"
	"body { font: 15px/1.4 sans-serif; margin: 2em; color: #222; background: #fff }\n"
	"table { border-collapse: collapse; font-size: 13px }\n"
	"th, td { padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap }\n"
	"thead th { position: sticky; top: 0; background: #eee }\n"
	"th.op { background: #f6f6f6; padding-top: .8em; white-space: normal }\n"
	"th.op span { font-weight: normal }\n"
	"td.n { text-align: right; font-variant-numeric: tabular-nums }\n"
	"td.why { color: #666; white-space: normal }\n"
	".zeros, .all { background: #e3f2e3 } .fault { background: #fbe5c8 } .file { background: #e4ecfa }\n"
	".wrong td, .failed td { background: #f8c9c9 }\n"
	"@media (prefers-color-scheme: dark) {\n"
	"body { color: #ddd; background: #181818 } thead th { background: #2a2a2a } th.op { background: #222 }\n"
	"th, td { border-color: #333 } td.why { color: #999 }\n"
	".zeros, .all { background: #1d3a1d } .fault { background: #4a3413 } .file { background: #1c2c4a }\n"
	".wrong td, .failed td { background: #5a1d1d }\n}\n</style>\n</head>\n<body>\n";

static const char *const columns[] = {
	"backing",
	"during",
	"guest sees",
	"freed",
	"frames",
	"uffd event",
	"pages zapped",
	"notifier ranges",
	"read p50, \302\265s",
	"read p99, \302\265s",
	"write p50, \302\265s",
	"write p99, \302\265s",
};

static void escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*text, out);
		}
	}
}

/* Its class is the first word of what it says. */
static void said(FILE *out, const char *text)
{
	fprintf(out, "<td class=\"%.*s\">", (int)strcspn(text, " "), text);
	escaped(out, text);
	fputs("</td>", out);
}

static void number(FILE *out, const char *text)
{
	fprintf(out, "<td class=\"n\">%s</td>", text);
}

static void plain(FILE *out, const char *text)
{
	fputs("<td>", out);
	escaped(out, text);
	fputs("</td>", out);
}

static void reason(FILE *out, const struct matrix_cell *c, size_t width)
{
	fprintf(out, "<td class=\"why\" colspan=\"%zu\">%s: ", width, matrix_state_name(c->state));
	escaped(out, c->why);
	fputs("</td>", out);
}

static void row(FILE *out, const struct matrix_cell *c)
{
	char text[40];

	fprintf(out, "<tr class=\"%s\"><th scope=\"row\">%s</th>", matrix_state_name(c->state),
		host_backing_table[c->backing].name);
	if (matrix_has_columns(c)) {
		said(out, c->during == SIGHT_UNKNOWN ? "" : matrix_sight_name(c->during));
		said(out, matrix_sight_name(c->after));
		said(out, matrix_freed_text(c, text));
		plain(out, matrix_moved_text(c, text));
		plain(out, c->events == MATRIX_UNKNOWN ? "?" : matrix_events_text(c->events, text));
		number(out, matrix_number_text(c->zapped, text));
		number(out, matrix_number_text(c->ranges, text));
		number(out, matrix_cost_text(&c->read, (s64)c->read.p50, text));
		number(out, matrix_cost_text(&c->read, c->read.p99, text));
		number(out, matrix_cost_text(&c->write, (s64)c->write.p50, text));
		number(out, matrix_cost_text(&c->write, c->write.p99, text));
	} else {
		reason(out, c, ARRAY_SIZE(columns) - 1);
	}
	fputs("</tr>\n", out);
	if (c->state != MATRIX_WRONG || !matrix_has_columns(c))
		return;
	fputs("<tr class=\"wrong\"><td></td>", out);
	reason(out, c, ARRAY_SIZE(columns) - 1);
	fputs("</tr>\n", out);
}

static void table(FILE *out, const struct matrix_result *r)
{
	fputs("<table>\n<thead><tr>", out);
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		fprintf(out, "<th scope=\"col\">%s</th>", columns[i]);
	fputs("</tr></thead>\n", out);
	for (u32 i = 0; i < r->nr; i++) {
		const struct matrix_cell *c = &r->cell[i];

		if (!i || c[-1].op != c->op) {
			fprintf(out, "%s<tbody>\n<tr><th class=\"op\" colspan=\"%zu\">%s <span>", i ? "</tbody>\n" : "",
				ARRAY_SIZE(columns), op_table[c->op].name);
			escaped(out, op_table[c->op].summary);
			fputs("</span></th></tr>\n", out);
		}
		row(out, c);
	}
	fprintf(out, "%s</table>\n", r->nr ? "</tbody>\n" : "");
}

static void skips(FILE *out, const struct matrix_result *r)
{
	u32 told = 0;

	fputs("<h2>Skipped columns</h2>\n<ul>\n", out);
	for (u32 i = 0; i < r->skips; i++) {
		fprintf(out, "<li>%s: ", r->skip[i].what);
		escaped(out, r->skip[i].why);
		fputs("</li>\n", out);
	}
	for (u32 i = 0; i < r->nr; i++) {
		const struct matrix_cell *c = &r->cell[i];

		if (!c->events_why[0] || told & BIT(c->backing))
			continue;
		told |= BIT(c->backing);
		fprintf(out, "<li>uffd events on %s: ", host_backing_table[c->backing].name);
		escaped(out, c->events_why);
		fputs("</li>\n", out);
	}
	for (u32 i = 0; i < r->nr; i++) {
		const struct matrix_cell *c = &r->cell[i];

		if (!c->cost_why[0])
			continue;
		fprintf(out, "<li>read and write after %s on %s: ", op_table[c->op].name,
			host_backing_table[c->backing].name);
		escaped(out, c->cost_why);
		fputs("</li>\n", out);
	}
	fputs("</ul>\n", out);
}

void matrix_print_html(FILE *out, const struct matrix_result *r)
{
	char summary[160];

	fputs(head, out);
	fputs("<h1>What does this operation do on this backing?</h1>\n<p>", out);
	if (r->ran) {
		fprintf(out, "tain, engine %s, second MMU <b>%s</b>, host memory ", r->id.engine, r->id.mmu);
		escaped(out, r->id.host_mm);
		fputs(", processor ", out);
		escaped(out, r->id.cpu);
		fputs(".</p>\n<p>", out);
	}
	fputs("<b>during</b>: a guest access between the operation and its undoing. <b>guest sees</b>: what it finds "
	      "in the "
	      "end. <b>frames</b>: where the pages stand once the guest has used them again. <b>read, write</b>: guest "
	      "accesses that are the first to their neighbourhood after the operation. <b>?</b>: not known here.</p>\n",
	      out);
	table(out, r);
	skips(out, r);
	fprintf(out, "<p>%s.</p>\n</body>\n</html>\n", matrix_summary(r, summary));
}
