/* SPDX-License-Identifier: MIT */
/* Workload: DATA with a stride, so that neighbours in time are not neighbours in memory. */
#include "guest/order.h"

GUEST_MAIN(stride)
{
	return guest_order_run(g, "stride", GUEST_ORDER_STRIDE, argc, argv);
}
