/* SPDX-License-Identifier: MIT */
/* What newer kernels have and older headers do not name. Whether the running kernel has it is asked at run time. */
#ifndef LAB_SYSTEM_LINUX_COMPAT_H
#define LAB_SYSTEM_LINUX_COMPAT_H

#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17 */
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7 */
#endif
#ifndef MADV_COLD
#define MADV_COLD 20 /* Linux 5.4 */
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21 /* Linux 5.4 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

/* /dev/userfaultfd (Linux 6.1): a descriptor for whoever may open the file. */
#define TAIN_USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)

/* PR_SET_THP_DISABLE, third argument: but for memory that asks for huge pages (Linux 6.18). */
#define TAIN_PR_THP_DISABLE_EXCEPT_ADVISED 2

/* guest_memfd (Linux 6.8); that a host can map it is asked by the second capability (6.18). */
#define TAIN_KVM_CAP_GUEST_MEMFD 234
#define TAIN_KVM_CAP_GUEST_MEMFD_FLAGS 244
#define TAIN_GUEST_MEMFD_FLAG_MMAP 1u
#define TAIN_GUEST_MEMFD_FLAG_INIT_SHARED 2u
struct tain_kvm_create_guest_memfd {
	unsigned long long size;
	unsigned long long flags;
	unsigned long long reserved[6];
};
#define TAIN_KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct tain_kvm_create_guest_memfd)

/* On a pagemap (Linux 6.7): the ranges of pages that are there, without a look at each. */
struct tain_page_region {
	unsigned long long start, end, categories;
};
struct tain_pm_scan {
	unsigned long long size, flags, start, end, walk_end, vec, vec_len, max_pages;
	unsigned long long category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define TAIN_PAGEMAP_SCAN _IOWR('f', 16, struct tain_pm_scan)
#define TAIN_PAGE_IS_PRESENT 8ull

#endif /* LAB_SYSTEM_LINUX_COMPAT_H */
