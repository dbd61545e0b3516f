/* SPDX-License-Identifier: MIT */
/*
 * What the tests of mm/ stand on: an address space with a small window of pages that
 * can be drawn. A picture has one character a page:
 *
 *   W read and write   R read   X read and execute   N nothing allowed   P special (reserved frames, RW)   . hole
 *   |                  between two pages of equal rights: two VMAs all the same
 *
 * and the contents another: the letter that was written to the page (page 0 of the
 * window 'a', page 1 'b' ...), 0 for zero or not there yet, . for a hole.
 */
#ifndef TESTS_MM_ENV_H
#define TESTS_MM_ENV_H

#include "lib/alloc.h"
#include "lib/rng.h"
#include "lib/thread.h"
#include "mm/mm_internal.h"
#include "tests/test.h"

#define RW (TAIN_PROT_READ | TAIN_PROT_WRITE)

#define ENV_ARENA_BYTES (8ul << 20)
#define ENV_WINDOW 24u /* pages in a picture, at most */
#define ENV_TEXT (2 * ENV_WINDOW + 1)

/* The window crosses the border of two leaf tables, or of two tables at every level, after its fourth page. */
#define ENV_BASE_LEAF (0x40200000ull - 4 * PAGE_SIZE)
#define ENV_BASE_ROOT ((1ull << 39) - 4 * PAGE_SIZE)

struct env {
	struct frame_arena *arena;
	struct mm_struct *mm;
	hva_t base;
	pfn_t reserved; /* first of ENV_WINDOW frames for P pages */
	size_t free_bytes;
};

bool env_init(struct env *env, hva_t base);
/* Ends the mm, checks that every frame is back, ends the arena. */
void env_fini(struct env *env);

static inline hva_t env_addr(const struct env *env, u64 page)
{
	return env->base + (page << PAGE_SHIFT);
}

/* Map what the picture says; touch every page, writing its letter, if @touch. */
void env_draw(struct env *env, const char *picture, bool touch);

/* The window as it is now, @pages long. */
void env_picture(struct env *env, unsigned int pages, char *out);
void env_contents(struct env *env, unsigned int pages, char *out);

/* The page at an address, whatever its rights; NULL if there is none. Nothing else may run. */
struct page *env_page(struct env *env, hva_t addr);
/* Its first word; 0 if there is no page. */
u64 env_word(struct env *env, hva_t addr);

int prot_of_letter(char letter);

extern const struct test_case mm_frame_tests[], mm_buddy_tests[], mm_vma_tests[], mm_pte_tests[], mm_op_tests[],
	mm_bad_tests[], mm_model_tests[], mm_fail_tests[], mm_fault_tests[], mm_race_tests[], mm_thread_tests[],
	mm_life_tests[], mm_rmap_tests[], mm_lock_all_tests[], mm_file_tests[], mm_mutant_tests[], mm_pin_tests[];

#endif /* TESTS_MM_ENV_H */
