/* SPDX-License-Identifier: MIT */
/* tain matrix: one result, four forms. */
#ifndef CMD_MATRIX_H
#define CMD_MATRIX_H

#include <stdio.h>

#include "lab/matrix/matrix.h"

void matrix_print_table(FILE *out, const struct matrix_result *r);
/* @bail: why cells that were planned are missing; NULL: none is. */
void matrix_print_tap(FILE *out, const struct matrix_result *r, const char *bail);
/* "180 cells: 116 done, ..."; @text: 160 bytes. */
const char *matrix_summary(const struct matrix_result *r, char *text);
/* A page of its own: no scripts, nothing from elsewhere. */
void matrix_print_html(FILE *out, const struct matrix_result *r);

/* Words for a cell's columns, in @text of 16 bytes: "all", "none", "lazily"; "new", "same"; "?" where unknown. */
const char *matrix_freed_text(const struct matrix_cell *c, char *text);
const char *matrix_moved_text(const struct matrix_cell *c, char *text);
const char *matrix_number_text(s64 n, char *text);
/* Microseconds; "?" if nothing was measured. */
const char *matrix_cost_text(const struct matrix_cost *cost, s64 ns, char *text);

/* Has the cell columns at all? */
static inline bool matrix_has_columns(const struct matrix_cell *c)
{
	return c->after != SIGHT_UNKNOWN;
}

#endif /* CMD_MATRIX_H */
