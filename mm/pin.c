/* SPDX-License-Identifier: MIT */
/* Pages held for a device: a fault's reference, kept. */
#include "mm/mm_internal.h"

int mm_pin(struct mm_struct *mm, hva_t addr, int prot, struct mm_pin *pin)
{
	struct mm_fault fault;
	int err;

	if (!pin || !is_aligned(addr, PAGE_SIZE) || !prot || prot & ~(TAIN_PROT_READ | TAIN_PROT_WRITE))
		return -EINVAL;
	err = mm_fault_in(mm, addr, (enum mm_access)prot, &fault);
	if (err)
		return err;
	pin->page = fault.page;
	pin->data = page_address(fault.page);
	return 0;
}

void mm_unpin(struct mm_pin *pin)
{
	put_page(pin->page);
	pin->page = NULL;
	pin->data = NULL;
}
