/* SPDX-License-Identifier: MIT */
/* What the tests of lab/ share: see tests/lab_suites.h. */
#include "tests/lab_suites.h"
#include "vmm/engine.h"

bool have_kvm(void)
{
	struct err why = { "" };

	if (!engine_find("kvm")->probe(&why))
		return true;
	test_skip("kvm: %s", why.text);
	return false;
}

void check_lists(const struct list_row *rows, size_t nr, int (*parse)(const char *list, u32 *set, struct err *err))
{
	for (size_t i = 0; i < nr; i++) {
		struct err err = { "" };
		u32 set = 0;
		int ret = parse(rows[i].list, &set, &err);

		CHECK_MSG(ret == (rows[i].set ? 0 : -EINVAL), "'%s': %d, %s", rows[i].list, ret, err.text);
		CHECK_EQ(err.text[0] != 0, ret != 0);
		if (!ret)
			CHECK_EQ(set, rows[i].set);
	}
}
