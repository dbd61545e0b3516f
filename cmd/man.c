/* SPDX-License-Identifier: MIT */
/* tain man: the manual page, its options from the same tables as --help. docs/tain.1 is its output. */
#include <string.h>

#include "cmd/cmd.h"

const struct command_spec cmd_man_spec = {
	.name = "tain man",
	.summary = "Print the manual page, as mdoc; docs/tain.1 is this output.",
};

static const struct command_spec *const specs[] = {
	&cmd_run_spec,
	&cmd_stress_spec,
	&cmd_bench_fault_spec,
	&cmd_bench_register_spec,
	&cmd_bench_invalidate_spec,
	&cmd_bench_interference_spec,
	&cmd_bench_outside_spec,
	&cmd_bench_figures_spec,
	&cmd_compare_spec,
	&cmd_merge_spec,
	&cmd_matrix_spec,
	&cmd_trace_spec,
	&cmd_list_spec,
	&cmd_doctor_spec,
	&cmd_version_spec,
	&cmd_uffd_check_spec,
	&cmd_man_spec,
};

static const char head[] = ".\\\" SPDX-License-Identifier: MIT\n"
			   ".\\\" Made by `tain man` from the option tables; do not edit.\n"
			   ".Dd November 21, 2026\n"
			   ".Dt TAIN 1\n"
			   ".Os\n"
			   ".Sh NAME\n"
			   ".Nm tain\n"
			   ".Nd launch test guests, stress the host's side of their memory, measure faults\n"
			   ".Sh SYNOPSIS\n"
			   ".Nm\n"
			   ".Ar command\n"
			   ".Op Ar options\n"
			   ".Sh DESCRIPTION\n"
			   "A hypervisor's second MMU mirrors the host's address space.\n"
			   ".Nm\n"
			   "runs small guests while the host unmaps, replaces, protects and moves the\n"
			   "memory behind them, checks that no stale translation is ever used, and times\n"
			   "each fault as the guest sees it.\n"
			   "It does so on three engines:\n"
			   ".Cm soft ,\n"
			   "the program's own address space, second MMU and software processor, which\n"
			   "needs nothing;\n"
			   ".Cm kvm ,\n"
			   "Linux's address space and KVM; and\n"
			   ".Cm qemu ,\n"
			   "a libvirt domain whose memory is worked on from outside.\n"
			   "The first line of every run names the engine, the MMU, the host's memory\n"
			   "management, the processor and the seed.\n"
			   ".Sh COMMANDS\n"
			   "Every command knows\n"
			   ".Fl h , -help .\n";

static const char tail[] = ".Sh ENVIRONMENT\n"
			   "Each long option of a command can be set as\n"
			   ".Ev TAIN_NAME ,\n"
			   "in capitals and with underscores for dashes; the command line wins.\n"
			   "Not so\n"
			   ".Fl -json\n"
			   "and other options that name a file to write,\n"
			   ".Fl -force ,\n"
			   ".Fl -plan ,\n"
			   ".Fl -run ,\n"
			   ".Fl -tap\n"
			   "and\n"
			   ".Fl -quiet .\n"
			   "With\n"
			   ".Ev NO_COLOR\n"
			   "set, nothing is coloured.\n"
			   ".Ev LIBVIRT_DEFAULT_URI\n"
			   "is honoured,\n"
			   ".Ev TMPDIR\n"
			   "holds what is temporary.\n"
			   ".Sh FILES\n"
			   ".Bl -tag -width /dev/kvm -compact\n"
			   ".It Pa /dev/kvm\n"
			   "engine\n"
			   ".Cm kvm\n"
			   ".El\n"
			   ".Sh EXIT STATUS\n"
			   ".Bl -tag -width 129,130,143 -compact\n"
			   ".It 0\n"
			   "passed\n"
			   ".It 1\n"
			   "a violation, or something failed\n"
			   ".It 2\n"
			   "misuse: an unknown name, a bad number, a bad file\n"
			   ".It 4\n"
			   "skipped: nothing of what was asked for can run here\n"
			   ".It 124\n"
			   "out of time, or no progress\n"
			   ".It 129,130,143\n"
			   "ended by SIGHUP, SIGINT or SIGTERM; what was measured until then is printed\n"
			   ".El\n"
			   ".Pp\n"
			   ".Nm Cm run\n"
			   "passes the guest's exit code on.\n"
			   ".Sh EXAMPLES\n"
			   "What runs here:\n"
			   ".Dl tain doctor\n"
			   "Ten seconds of every host operation under a KVM guest with two vCPUs:\n"
			   ".Dl tain stress --engine kvm --ops all -v 2\n"
			   "The same plan again:\n"
			   ".Dl tain stress --engine kvm --ops all -v 2 --seed 1234\n"
			   "Fault latencies as a document:\n"
			   ".Dl tain bench fault --engine kvm --json faults.json\n"
			   "One campaign in three parts, wherever they run:\n"
			   ".Dl tain stress --seed 7 --shard 2/3 --json 2.json\n"
			   ".Dl tain merge --complete 1.json 2.json 3.json --json all.json\n"
			   ".Sh DIAGNOSTICS\n"
			   "A violation names the page, the generations seen and allowed, the operation\n"
			   "and step that changed the page last, the vCPU and the seed, followed by the\n"
			   "last trace events of each thread.\n"
			   ".Sh SEE ALSO\n"
			   "The format of results is described in docs/results.md.\n";

#define WIDTH 78

/* A word for mdoc, where backslashes, and dots at the start of a line, mean something. */
static void put_word(const char *word, size_t len, bool start)
{
	if (start && (*word == '.' || *word == '\''))
		fputs("\\&", stdout);
	if (len == 2 && !strncmp(word, "--", 2)) {
		fputs("\\-\\-", stdout);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if (word[i] == '\\')
			fputs("\\e", stdout);
		else
			putchar(word[i]);
	}
}

/* Text for mdoc: folded, each sentence on a line of its own. */
static void prose(const char *s)
{
	size_t column = 0;

	while (*(s += strspn(s, " \n"))) {
		size_t len = strcspn(s, " \n");

		if (column && column + 1 + len > WIDTH) {
			putchar('\n');
			column = 0;
		}
		if (column)
			putchar(' ');
		put_word(s, len, !column);
		column += len + (column != 0);
		s += len;
		if (*s && strchr(".?!", s[-1])) {
			putchar('\n');
			column = 0;
		}
	}
	if (column)
		putchar('\n');
}

static void print_option(const struct option_spec *o)
{
	printf(".It ");
	if (o->short_name)
		printf("Fl %c%s", o->short_name, o->long_name ? " , " : "");
	if (o->long_name)
		printf("Fl -%s", o->long_name);
	if (o->kind != OPTION_FLAG)
		printf(" Ar %s", o->value_name);
	putchar('\n');
	prose(o->help);
}

static void print_command(const struct command_spec *spec)
{
	printf(".Ss %s\n", spec->name);
	printf(".D1 %s%s%s%s\n", spec->name, spec->nr_options ? " [OPTIONS]" : "", spec->args ? " " : "",
	       spec->args ?: "");
	prose(spec->summary);
	if (spec->description)
		prose(spec->description);
	if (!spec->nr_options)
		return;
	printf(".Bl -tag -width Ds\n");
	for (unsigned int i = 0; i < spec->nr_options; i++)
		print_option(&spec->options[i]);
	printf(".El\n");
}

int cmd_man(int argc, char **argv)
{
	int first, status;

	if (!cmd_parse(&cmd_man_spec, argc, argv, &first, &status))
		return status;
	fputs(head, stdout);
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
		print_command(specs[i]);
	fputs(tail, stdout);
	return cmd_finish(CMD_OK);
}
