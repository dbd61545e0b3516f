/* SPDX-License-Identifier: MIT */
/*
 * Host code that touches the address space: populate, copies, 64-bit words. Each
 * page is pinned while it is touched: the reference that mm_fault_in() gives keeps
 * the frame from being used for anything else, whatever happens to the mapping.
 */
#include "mm/mm_internal.h"

/* The part of [addr, end) in one VMA, and the access it allows best. Return: false for a hole. */
static bool populate_span(struct mm_struct *mm, hva_t addr, hva_t end, hva_t *span_end, enum mm_access *access)
{
	struct mm_range range = { mm, addr, end };
	struct vm_area_struct *vma;
	int prot = 0;

	mm->policy->read_begin(&range);
	vma = vma_lookup(mm, addr);
	if (vma) {
		*span_end = min(vma->end, end);
		prot = vma_prot(vma);
	}
	mm->policy->read_end(&range);
	*access = prot & MM_WRITE ? MM_WRITE : (enum mm_access)prot;
	return vma;
}

int mm_populate(struct mm_struct *mm, hva_t addr, size_t len)
{
	hva_t end = addr + len, span_end = 0, refused = end;
	enum mm_access access = 0;

	if (!range_ok(addr, len))
		return -EINVAL;
	while (addr < end) {
		struct mm_fault fault;
		int err;

		if (addr >= span_end && !populate_span(mm, addr, end, &span_end, &access))
			return -EFAULT;
		if (!access) {
			addr = span_end; /* nobody may touch it, so nothing has to be there */
			continue;
		}
		err = mm_fault_in(mm, addr, access, &fault);
		if (err == -EFAULT && refused != addr) {
			refused = addr;
			span_end = 0; /* a writer changed it since: look again */
			continue;
		}
		if (err)
			return err;
		put_page(fault.page);
		addr += PAGE_SIZE;
	}
	return 0;
}

/*
 * Guests write the same words at the same time. Whole words move at once where both
 * sides are aligned, so that a word is old or new.
 */
static void copy_relaxed(u8 *dst, const u8 *src, size_t len)
{
	if (is_aligned((uintptr_t)dst | (uintptr_t)src | len, sizeof(u64))) {
		for (size_t i = 0; i < len; i += sizeof(u64))
			WRITE_ONCE(*(u64 *)(dst + i), READ_ONCE(*(const u64 *)(src + i)));
		return;
	}
	for (size_t i = 0; i < len; i++)
		WRITE_ONCE(dst[i], READ_ONCE(src[i]));
}

int mm_copy_to(struct mm_struct *mm, hva_t dst, const void *src, size_t len)
{
	const u8 *from = src;

	while (len) {
		size_t offset = dst & ~PAGE_MASK;
		size_t n = min(len, PAGE_SIZE - offset);
		struct mm_fault fault;
		int err = mm_fault_in(mm, dst, MM_WRITE, &fault);

		if (err)
			return err;
		copy_relaxed((u8 *)frame_address(fault.page) + offset, from, n);
		put_page(fault.page);
		dst += n;
		from += n;
		len -= n;
	}
	return 0;
}

int mm_copy_from(struct mm_struct *mm, void *dst, hva_t src, size_t len)
{
	u8 *to = dst;

	while (len) {
		size_t offset = src & ~PAGE_MASK;
		size_t n = min(len, PAGE_SIZE - offset);
		struct mm_fault fault;
		int err = mm_fault_in(mm, src, MM_READ, &fault);

		if (err)
			return err;
		copy_relaxed(to, (const u8 *)frame_address(fault.page) + offset, n);
		put_page(fault.page);
		src += n;
		to += n;
		len -= n;
	}
	return 0;
}

static u64 *word_at(const struct mm_fault *fault, hva_t addr)
{
	return (u64 *)((u8 *)frame_address(fault->page) + (addr & ~PAGE_MASK));
}

int mm_read64(struct mm_struct *mm, hva_t addr, u64 *value)
{
	struct mm_fault fault;
	int err;

	if (!is_aligned(addr, sizeof(u64)))
		return -EINVAL;
	err = mm_fault_in(mm, addr, MM_READ, &fault);
	if (err)
		return err;
	*value = READ_ONCE(*word_at(&fault, addr));
	put_page(fault.page);
	return 0;
}

int mm_write64(struct mm_struct *mm, hva_t addr, u64 value)
{
	struct mm_fault fault;
	int err;

	if (!is_aligned(addr, sizeof(u64)))
		return -EINVAL;
	err = mm_fault_in(mm, addr, MM_WRITE, &fault);
	if (err)
		return err;
	WRITE_ONCE(*word_at(&fault, addr), value);
	put_page(fault.page);
	return 0;
}
