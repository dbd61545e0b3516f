/* SPDX-License-Identifier: MIT */
/*
 * A process that outlives tain, by kill -9 too, to do one thing: put back or remove what nobody else would.
 * Fork it early, before memory that is measured: a fork makes that copy on write.
 */
#ifndef LAB_SYSTEM_KEEPER_H
#define LAB_SYSTEM_KEEPER_H

#include <sys/types.h>

#include "lib/err.h"

struct keeper {
	pid_t pid; /* 0: there is none */
	int pipe;  /* its end: tain has no more need of it */
};

/*
 * Fork it. @name: as ps shows it. @keep: the descriptors that it keeps, -1 at the end.
 * @fn(@arg) is called in it when tain is gone or keeper_end() is called; system calls alone.
 * Return: 0; -errno, with one line in @err.
 */
int keeper_start(struct keeper *k, const char *name, const int *keep, void (*fn)(void *arg), void *arg,
		 struct err *err);

/* Let fn run, and wait for its end. Harmless without a keeper. */
void keeper_end(struct keeper *k);

#endif /* LAB_SYSTEM_KEEPER_H */
