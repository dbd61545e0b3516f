/* SPDX-License-Identifier: MIT */
/* The window: drawing it, and reading it back. */
#include <string.h>

#include "tests/mm_env.h"

bool env_init(struct env *env, hva_t base)
{
	*env = (struct env){ .base = base };
	if (!CHECK_EQ(frame_arena_create(ENV_ARENA_BYTES, &env->arena), 0))
		return false;
	CHECK_EQ(frame_reserve(env->arena, ENV_WINDOW * PAGE_SIZE, &env->reserved), 0);
	env->free_bytes = frame_arena_free_bytes(env->arena);
	if (CHECK_EQ(mm_create(env->arena, "mmap_sem", &env->mm), 0))
		return true;
	frame_arena_destroy(env->arena);
	return false;
}

void env_fini(struct env *env)
{
	if (env->mm) {
		mm_check(env->mm);
		mmput(env->mm);
	}
	CHECK_EQ(frame_arena_free_bytes(env->arena), env->free_bytes);
	spin_lock(&env->arena->zone_lock);
	buddy_check_locked(env->arena);
	spin_unlock(&env->arena->zone_lock);
	frame_arena_destroy(env->arena);
}

int prot_of_letter(char letter)
{
	switch (letter) {
	case 'W':
	case 'P':
		return RW;
	case 'R':
		return TAIN_PROT_READ;
	case 'X':
		return TAIN_PROT_READ | TAIN_PROT_EXEC;
	default:
		return TAIN_PROT_NONE;
	}
}

static void map_page(struct env *env, unsigned int page, char letter, bool touch)
{
	hva_t addr = env_addr(env, page);

	if (letter == 'P') {
		CHECK_EQ(mm_map_pfn(env->mm, addr, env->reserved + page, PAGE_SIZE, RW), 0);
	} else {
		CHECK_EQ(mm_mmap(env->mm, addr, PAGE_SIZE, RW, TAIN_MAP_FIXED, NULL), 0);
	}
	if (touch)
		CHECK_EQ(mm_write64(env->mm, addr, (u64)'a' + page), 0);
	if (letter != 'P')
		CHECK_EQ(mm_mprotect(env->mm, addr, PAGE_SIZE, prot_of_letter(letter)), 0);
}

void env_draw(struct env *env, const char *picture, bool touch)
{
	unsigned int page = 0;

	mm_munmap(env->mm, env->base, ENV_WINDOW * PAGE_SIZE);
	for (; *picture; picture++) {
		if (*picture == '|')
			continue; /* pages come to be like that by mremap only */
		if (*picture != '.')
			map_page(env, page, *picture, touch);
		page++;
	}
	mm_check(env->mm);
}

static char letter_of(const struct vm_area_struct *vma)
{
	if (vma->flags & VM_PFNMAP)
		return 'P';
	switch (vma_prot(vma)) {
	case RW:
		return 'W';
	case TAIN_PROT_READ:
		return 'R';
	case TAIN_PROT_READ | TAIN_PROT_EXEC:
		return 'X';
	case TAIN_PROT_NONE:
		return 'N';
	default:
		return '?';
	}
}

void env_picture(struct env *env, unsigned int pages, char *out)
{
	struct vm_area_struct *last = NULL;

	mm_audit_begin(env->mm);
	for (unsigned int i = 0; i < pages; i++) {
		struct vm_area_struct *vma = vma_lookup(env->mm, env_addr(env, i));

		if (vma && last && vma != last && vma->flags == last->flags)
			*out++ = '|';
		*out++ = vma ? letter_of(vma) : '.';
		last = vma;
	}
	mm_audit_end(env->mm);
	*out = '\0';
}

struct page *env_page(struct env *env, hva_t addr)
{
	struct page *leaf = pt_leaf(env->mm, addr);
	pte_t pte = { 0 };

	if (leaf)
		pte = pte_read(&pt_entries(leaf)[pt_index(addr, 1)]);
	return pte_none(pte) ? NULL : frame_page(env->arena, pte_pfn(pte));
}

u64 env_word(struct env *env, hva_t addr)
{
	struct page *page = env_page(env, addr);

	return page ? READ_ONCE(*(u64 *)frame_address(page)) : 0;
}

void env_contents(struct env *env, unsigned int pages, char *out)
{
	for (unsigned int i = 0; i < pages; i++) {
		u64 word = env_word(env, env_addr(env, i));

		if (!vma_lookup(env->mm, env_addr(env, i)))
			*out++ = '.';
		else
			*out++ = word ? (char)word : '0';
	}
	*out = '\0';
}
