/* SPDX-License-Identifier: MIT */
/* Writing a JSON document so that a reader finds the whole of it or nothing. */
#ifndef LIB_JSON_H
#define LIB_JSON_H

#include <jansson.h>

#include "lib/base.h"
#include "lib/err.h"

/*
 * Write @doc to @path; "-" is standard output. A regular file is written beside and
 * renamed: on failure the old one stands. Devices and pipes are written directly.
 * Return: 0; -errno (-ENOSPC, -EACCES, -ENOENT ...) with one line in @err.
 */
int json_save(json_t *doc, const char *path, struct err *err);

/* The same for a text that ends with its NUL. */
int text_save(const char *text, const char *path, struct err *err);

#endif /* LIB_JSON_H */
