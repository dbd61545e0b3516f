/* SPDX-License-Identifier: MIT */
/* Documents to files: written beside, then renamed. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/json.h"

#define JSON_STYLE (JSON_INDENT(2) | JSON_REAL_PRECISION(12))

static int save_error(struct err *err, const char *path, int code)
{
	return err_set(err, -code, "cannot write %s: %s", path, strerror(code));
}

/* What a file is to hold: one of the two. */
struct content {
	json_t *doc;
	const char *text;
};

/* Return: 0 or a positive errno. */
static int write_stream(const struct content *c, FILE *file)
{
	errno = 0;
	if ((c->doc && (json_dumpf(c->doc, file, JSON_STYLE) || fputc('\n', file) == EOF)) ||
	    (c->text && fputs(c->text, file) == EOF) || fflush(file))
		return errno ? errno : EIO;
	return 0;
}

static int save_direct(const struct content *c, const char *path, struct err *err)
{
	FILE *file = fopen(path, "we");
	int code;

	if (!file)
		return save_error(err, path, errno);
	code = write_stream(c, file);
	if (fclose(file) && !code)
		code = errno;
	return code ? save_error(err, path, code) : 0;
}

static int save_renamed(const struct content *c, const char *path, const char *target, mode_t mode, struct err *err)
{
	char temp[PATH_MAX];
	FILE *file;
	int fd, code;

	if (snprintf(temp, sizeof(temp), "%s.XXXXXX", target) >= (int)sizeof(temp))
		return save_error(err, path, ENAMETOOLONG);
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return save_error(err, path, errno);
	file = fdopen(fd, "w");
	if (!file) {
		code = errno;
		close(fd);
		goto unlink;
	}
	code = write_stream(c, file);
	/* Only what has reached the disk may replace what is there: a full disk may show only now. */
	if (!code && (fchmod(fd, mode) || fsync(fd)))
		code = errno;
	if (fclose(file) && !code)
		code = errno;
	if (!code && rename(temp, target))
		code = errno;
	if (!code)
		return 0;
unlink:
	unlink(temp);
	return save_error(err, path, code);
}

static int save(const struct content *c, const char *path, struct err *err)
{
	char target[PATH_MAX];
	struct stat st;
	mode_t mask;
	int code;

	if (!strcmp(path, "-")) {
		code = write_stream(c, stdout);
		return code ? save_error(err, "standard output", code) : 0;
	}
	if (!stat(path, &st)) {
		if (!S_ISREG(st.st_mode))
			return save_direct(c, path, err);
		/* Through a symbolic link, not over it. */
		if (!realpath(path, target))
			return save_error(err, path, errno);
		return save_renamed(c, path, target, st.st_mode & 07777, err);
	}
	mask = umask(0);
	umask(mask);
	return save_renamed(c, path, path, 0666 & ~mask, err);
}

int json_save(json_t *doc, const char *path, struct err *err)
{
	return save(&(struct content){ .doc = doc }, path, err);
}

int text_save(const char *text, const char *path, struct err *err)
{
	return save(&(struct content){ .text = text }, path, err);
}
