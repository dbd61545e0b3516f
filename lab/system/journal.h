/* SPDX-License-Identifier: MIT */
/*
 * What tain has changed of the machine, and what was found there: a file in SYSTEM_RUN_DIR that tain and its guardian
 * map. It is written before the change is made and crossed out after it is undone, so whoever comes later can undo
 * what stands in it: the guardian when tain is gone, the next tain when both are (a container that is killed, kill -9
 * of each). flock(2) of the file tells whether they are. Another boot's is void: its switches are gone.
 */
#ifndef LAB_SYSTEM_JOURNAL_H
#define LAB_SYSTEM_JOURNAL_H

#include "lib/base.h"
#include "lib/err.h"

#define JOURNAL_RECORDS 32
#define JOURNAL_PATH_BYTES 256

enum journal_kind {
	JOURNAL_WRITE,
	JOURNAL_SWAP,
	JOURNAL_KSM, /* all that KSM has merged goes back to its owners, then as JOURNAL_WRITE */
};

struct journal_record {
	u32 armed; /* 0: not to be undone; else its place in the order of changes. Stored last, with release */
	u32 kind;  /* enum journal_kind */
	char path[JOURNAL_PATH_BYTES];
	char found[64];
};

struct journal {
	char magic[16]; /* "": a file that was just made */
	char boot[48];	/* the kernel's boot_id */
	struct journal_record record[JOURNAL_RECORDS];
};

/*
 * Map it and take its lock. @fd: holds the lock, as system_flock(). What a dead tain left is undone first.
 * @healed: how many changes that were.
 * Return: 0; -EBUSY: another tain's; -EPERM: not for this user; -EIO: what was left cannot be undone; -errno.
 */
int journal_open(struct journal **j, int *fd, unsigned int *healed, struct err *err);
void journal_close(struct journal *j, int fd);

/* Into a switch. Return: 0; -errno. */
int journal_write_text(const char *path, const char *text);

/* For both sides: system calls alone. Return: 0; -errno: it stays armed. */
int journal_undo(struct journal_record *r);
/* Latest first. Return: the first error. */
int journal_undo_all(struct journal *j);

/*
 * What a dead tain left, as text: "PATH was 0, swap on PATH".
 * Return: how many changes; -EBUSY: a running tain's; -EACCES: this user cannot know; -EIO: it is not understood.
 */
int journal_left(char *text, size_t bytes);

#endif /* LAB_SYSTEM_JOURNAL_H */
