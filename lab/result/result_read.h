/* SPDX-License-Identifier: MIT */
/* Results from files. */
#ifndef LAB_RESULT_RESULT_READ_H
#define LAB_RESULT_RESULT_READ_H

#include <jansson.h>

#include "lib/base.h"
#include "lib/err.h"

#define RESULT_SCHEMA "tain.result/1"
#define RESULT_MAX_BYTES (256ull << 20) /* far more than any run writes */

/*
 * A document from a file, or from what else can be opened.
 * Return: 0 and @doc, to be dropped; -errno (it cannot be read), -EINVAL (not JSON, a key twice, another schema),
 * -EFBIG, with one line in @err.
 */
int result_load(const char *path, json_t **doc, struct err *err);

#endif /* LAB_RESULT_RESULT_READ_H */
