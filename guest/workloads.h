/* SPDX-License-Identifier: MIT */
/* The built-in workloads: X(name, one-line summary). C and assembler read this file. */
#ifndef GUEST_WORKLOADS_H
#define GUEST_WORKLOADS_H

/* clang-format off */
#define GUEST_WORKLOADS(X) \
	X(hello, "greets with its vCPU number and its arguments; exit=N sets the exit code") \
	X(touch, "touches pages of DATA as the host commands and times each access") \
	X(stride, "walks DATA with a stride until stopped and prints its rate; passes= stride= write=") \
	X(random, "touches pages of DATA in random order until stopped and prints its rate; passes= seed= write=") \
	X(stamp, "checks the stamps of random pages against the host's rules: the oracle's eyes") \
	X(counter, "counts in DATA pages and checks that no count is ever lost; passes= pages=")
/* clang-format on */

#endif /* GUEST_WORKLOADS_H */
