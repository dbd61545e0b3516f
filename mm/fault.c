/* SPDX-License-Identifier: MIT */
/*
 * The host's fault path: from an address to a page that an entry holds.
 *
 * Nothing here depends on the locking design: it finds the VMA by
 * policy->fault_begin(), does all slow work (tables, a cleared frame) before the
 * page-table lock, and installs under it after asking policy->fault_valid().
 *
 *   fault                                     another fault on the page
 *   -----                                     -------------------------
 *   entry empty: allocate and clear a frame   the same
 *   ptl                                       (waits for ptl)
 *     entry still empty: install
 *   unlock                                    ptl
 *                                               entry holds a page: that one it is;
 *                                               the frame goes back
 *                                             unlock
 */
#include "mm/mm_internal.h"

enum fault_outcome {
	FAULT_DONE,  /* vmf->result is filled */
	FAULT_RETRY, /* what fault_begin() found is void: from the start */
		     /* negative: -errno */
};

/* Give the page under @pte to the caller, and note the access. Context: ptl. */
static void take_page_locked(struct vm_fault *vmf, struct page *leaf, pte_t pte, struct page *page)
{
	pte_t touched = pte_touch(pte, vmf->access);

	if (touched.val != pte.val)
		pte_set_locked(leaf, vmf->addr, touched);
	frame_get(page);
	vmf->result->page = page;
	vmf->result->writable = pte_write(pte);
}

/*
 * The entry holds a page. Its rights are those of the VMA, unless a policy lets
 * faults run beside mprotect: then the VMA that we hold decides.
 */
static enum fault_outcome use_entry_locked(struct vm_fault *vmf, struct page *leaf, pte_t pte)
{
	if (unlikely(!pte_allows(pte, vmf->access))) {
		pte = pte_modify(pte, vma_prot(vmf->vma));
		pte_set_locked(leaf, vmf->addr, pte);
	}
	take_page_locked(vmf, leaf, pte, frame_page(vmf->mm->arena, pte_pfn(pte)));
	return FAULT_DONE;
}

/* A frame to install, cleared; NULL when there is none. */
static struct page *new_page(struct vm_fault *vmf)
{
	struct page *page = frame_alloc_wait(vmf->mm->arena, 0);

	if (unlikely(!page))
		return NULL;
	frame_clear(page);
	WRITE_ONCE(page->flags, PG_ANON);
	WRITE_ONCE(page->mapping, vma_anon(vmf->vma));
	WRITE_ONCE(page->index, vma_index(vmf->vma, vmf->addr));
	return page;
}

static void install_locked(struct vm_fault *vmf, struct page *leaf, pte_t pte, struct page *page)
{
	pte = pte_touch(pte, vmf->access);
	pte_set_locked(leaf, vmf->addr, pte);
	vmf->result->page = page;
	vmf->result->writable = pte_write(pte);
}

/* The first touch of an anonymous page. */
static int fault_anon(struct vm_fault *vmf, struct page *leaf)
{
	pte_t *ptep = &pt_entries(leaf)[pt_index(vmf->addr, 1)];
	struct page *page = new_page(vmf);
	int out = FAULT_DONE;
	pte_t pte;

	if (unlikely(!page))
		return -ENOMEM;
	race_point("mm_fault:before_ptl");
	spin_lock(&leaf->ptl);
	pte = pte_read(ptep);
	if (unlikely(!vmf->mm->policy->fault_valid(vmf))) {
		out = FAULT_RETRY;
	} else if (unlikely(!pte_none(pte))) {
		mm_count_event(vmf->mm, MM_NR_LOST_INSTALLS, 1);
		out = use_entry_locked(vmf, leaf, pte);
	} else {
		/* One reference is the entry's, one the caller's; nobody else can see the page yet. */
		WRITE_ONCE(page->refcount, 2);
		WRITE_ONCE(page->mapcount, 1);
		install_locked(vmf, leaf, pte_make(frame_pfn(page), vma_prot(vmf->vma)), page);
		mm_count_event(vmf->mm, MM_NR_FIRST_TOUCHES, 1);
		page = NULL;
	}
	spin_unlock(&leaf->ptl);
	race_point("mm_fault:after_ptl");
	if (unlikely(page))
		put_page(page);
	return out;
}

/* The first touch of a page of a special mapping: it was there all along. */
static int fault_special(struct vm_fault *vmf, struct page *leaf)
{
	pte_t *ptep = &pt_entries(leaf)[pt_index(vmf->addr, 1)];
	struct vma_attr attr = vma_attr_at(vmf->vma, vmf->addr);
	int out = FAULT_DONE;
	pte_t pte;

	spin_lock(&leaf->ptl);
	pte = pte_read(ptep);
	if (unlikely(!vmf->mm->policy->fault_valid(vmf))) {
		out = FAULT_RETRY;
	} else if (!pte_none(pte)) {
		out = use_entry_locked(vmf, leaf, pte);
	} else {
		struct page *page = frame_page(vmf->mm->arena, attr.pgoff);

		frame_get(page);
		install_locked(vmf, leaf, pte_mkspecial(pte_make(attr.pgoff, vma_prot(vmf->vma))), page);
	}
	spin_unlock(&leaf->ptl);
	return out;
}

/*
 * The first touch of a page of a file. The file may give it up between the look and
 * the lock (catalogue 45):
 *
 *   fault                                  truncate
 *   -----                                  --------
 *   page of the file, with a reference
 *                                          the file gives it up
 *   page-table lock                        clears entries under the page-table lock
 *     is it the file's still? no: retry
 *
 * Who takes the page-table lock first: the fault, and truncate clears what it installs;
 * or truncate, and the fault sees what truncate did before.
 */
static int fault_file(struct vm_fault *vmf, struct page *leaf)
{
	pte_t *ptep = &pt_entries(leaf)[pt_index(vmf->addr, 1)];
	u64 index = vma_index(vmf->vma, vmf->addr);
	struct mm_file *file = vmf->vma->file;
	int out = FAULT_DONE;
	struct page *page;
	pte_t pte;
	int err = mm_file_page(file, index, &page);

	if (err)
		return err;
	race_point("mm_fault_file:before_ptl");
	spin_lock(&leaf->ptl);
	pte = pte_read(ptep);
	if (unlikely(!vmf->mm->policy->fault_valid(vmf))) {
		out = FAULT_RETRY;
	} else if (!pte_none(pte)) {
		out = use_entry_locked(vmf, leaf, pte);
	} else if (unlikely(!mm_file_has_page(file, index, page))) {
		out = FAULT_RETRY;
	} else {
		frame_get(page); /* the entry's; the one we have is the caller's */
		fetch_add(&page->mapcount, 1);
		install_locked(vmf, leaf, pte_make(frame_pfn(page), vma_prot(vmf->vma)), page);
		page = NULL;
	}
	spin_unlock(&leaf->ptl);
	if (page)
		put_page(page);
	return out;
}

/* An entry holds a page already. */
static int fault_present(struct vm_fault *vmf, struct page *leaf)
{
	pte_t *ptep = &pt_entries(leaf)[pt_index(vmf->addr, 1)];
	int out = FAULT_RETRY;
	pte_t pte;

	race_point("mm_fault:before_present");
	spin_lock(&leaf->ptl);
	pte = pte_read(ptep);
	/* Emptied since the look without the lock (DONTNEED): once more. */
	if (likely(!pte_none(pte) && vmf->mm->policy->fault_valid(vmf)))
		out = use_entry_locked(vmf, leaf, pte);
	spin_unlock(&leaf->ptl);
	if (out == FAULT_DONE)
		mm_count_event(vmf->mm, MM_NR_SPURIOUS, 1);
	return out;
}

/* Between fault_begin() and fault_end(). */
static int handle_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct page *leaf;

	if (unlikely(!vma || (vma_prot(vma) & vmf->access) != vmf->access))
		return -EFAULT;
	leaf = pt_leaf_alloc(vmf->mm, vmf->addr);
	if (unlikely(!leaf))
		return -ENOMEM;
	/* A hint, decided again under the lock. */
	if (!pte_none(pte_read(&pt_entries(leaf)[pt_index(vmf->addr, 1)])))
		return fault_present(vmf, leaf);
	if (vma->flags & VM_PFNMAP)
		return fault_special(vmf, leaf);
	if (vma->flags & VM_SHARED)
		return fault_file(vmf, leaf);
	if (unlikely(!vma_anon(vma)) && anon_vma_prepare(vma))
		return -ENOMEM;
	return fault_anon(vmf, leaf);
}

int mm_fault_in(struct mm_struct *mm, hva_t hva, enum mm_access access, struct mm_fault *fault)
{
	struct vm_fault vmf = { .mm = mm, .addr = hva & PAGE_MASK, .access = (int)access, .result = fault };
	int ret;

	if (unlikely(hva >= TAIN_TASK_SIZE || !access))
		return -EFAULT;
	mm_count_event(mm, MM_NR_FAULTS, 1);
	/* Each round lost is a writer's progress (fault_valid) or another zap's (an entry emptied). */
	for (;;) {
		ret = mm->policy->fault_begin(&vmf);
		if (unlikely(ret))
			return ret;
		ret = handle_fault(&vmf);
		mm->policy->fault_end(&vmf);
		if (likely(ret != FAULT_RETRY))
			break;
		mm_count_event(mm, MM_NR_RETRIES, 1);
		mm_trace(RETRY, vmf.addr, access, 0, 0);
	}
	mm_trace(FAULT, hva, access, ret ? 0 : frame_pfn(fault->page), ret);
	return ret;
}
