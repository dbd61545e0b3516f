/* SPDX-License-Identifier: MIT */
/* tain version */
#include "cmd/cmd.h"

static const char *variant(void)
{
	if (TSAN)
		return "tsan";
#if defined(__SANITIZE_ADDRESS__)
	return "asan";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return "asan";
#endif
#endif
	return PROVE ? "prove" : CHECKING ? "checking" : "release";
}

const struct command_spec cmd_version_spec = {
	.name = "tain version",
	.summary = "Print the version, the build and what it can do.",
};

int cmd_version(int argc, char **argv)
{
	int first, status;

	if (!cmd_parse(&cmd_version_spec, argc, argv, &first, &status))
		return status;
	printf("tain %s (%s build, mutants and race points %s)\n", TAIN_VERSION, variant(),
	       CHECKING ? "compiled in" : "left out");
	return cmd_finish(CMD_OK);
}
