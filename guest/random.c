/* SPDX-License-Identifier: MIT */
/* Workload: DATA in random order, a new permutation each pass. */
#include "guest/order.h"

GUEST_MAIN(random)
{
	return guest_order_run(g, "random", GUEST_ORDER_RANDOM, argc, argv);
}
