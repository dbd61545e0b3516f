/* SPDX-License-Identifier: MIT */
/*
 * Running the command `tain` from outside: what it printed, how it ended, what it left.
 *
 * Every run happens in a directory of the test's own, empty at its start, without the
 * caller's TAIN_* variables. Everything is freed, and what still runs is killed, when
 * the test ends. A sanitizer's report, a BUG, a signal nobody sent and a run that does
 * not end fail the test by themselves.
 */
#ifndef TESTS_CMD_ENV_H
#define TESTS_CMD_ENV_H

#include <jansson.h>
#include <sys/types.h>

#include "lib/base.h"
#include "lib/time.h"
#include "tests/test.h"

struct tain_text {
	int fd;	    /* -1: at its end */
	char *text; /* ends with a NUL, may hold others */
	size_t bytes;
};

struct tain_run {
	char name[256]; /* the command line, for messages */
	struct tain_text out, err;
	pid_t pid;   /* 0: over */
	int status;  /* exit status; 128 + the signal that killed it */
	bool killed; /* by a signal, not by exit(128 + n) */
	bool keep;   /* outlives the test that started it */
	struct tain_run *next;
};

/* How a run differs from the plain one: both streams are pipes. */
struct tain_setup {
	const char *const *env;	   /* "NAME=VALUE", ..., NULL: added to the environment */
	const char *const *before; /* a program and its words that runs tain, such as setpriv */
	const char *program;	   /* instead of the tain under test */
	const char *out_path;	   /* stdout goes there */
	bool out_closed;	   /* there is no stdout */
	bool terminal;		   /* stdout and stderr are a terminal; both are found in out */
	bool group;		   /* it leads a process group of its own, numbered like its pid */
	bool err_terminal;	   /* stderr alone is, and is found in err */
};

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Run to the end. */
#define TAIN(...) tain_run(NULL, WORDS(__VA_ARGS__))
#define TAIN_WITH(setup, ...) tain_run(setup, WORDS(__VA_ARGS__))
const struct tain_run *tain_run(const struct tain_setup *setup, const char *const *words);

/* Start; tain_wait() or the test's end collects it. */
struct tain_run *tain_start(const struct tain_setup *setup, const char *const *words);
/* Read until @stream holds @part, @n times over. Return: does it? Otherwise the check has failed. */
bool tain_expect(struct tain_run *r, const struct tain_text *stream, const char *part, unsigned int n);
/* Wait until stress, whose stderr is a terminal, shows that guests and host work. Return: false: the check has failed.
 */
bool tain_expect_work(struct tain_run *r);
void tain_wait(struct tain_run *r);

/* Has that process ended, if not yet been collected by init? */
bool tain_gone(int pid);
/* Is there nothing more to wait for? It is not collected yet. */
bool tain_has_ended(const struct tain_run *r);
/* Sleep, while what runs goes on; a full pipe makes it wait. */
void tain_pause(u64 ms);

/* How often @part occurs. */
unsigned int tain_count(const char *text, const char *part);

/*
 * @r was refused: @status, nothing on stdout, on stderr the one line "tain: " and @text,
 * nothing left. "..." at the end of @text stands for what differs from machine to machine.
 */
void check_refused(const struct tain_run *r, int status, const char *text);

/*
 * Nothing stands on stderr but the lines that a run of @command ("stress") says every ten
 * seconds: on a busy machine any run may take so long.
 */
void check_heartbeats(const struct tain_run *r, const char *command);

/* The test's directory, and a file in it; both valid until the test ends. */
const char *tain_dir(void);
const char *tain_path(const char *name);
/* How many files are in it. */
unsigned int tain_dir_files(void);
void tain_write_file(const char *name, const void *bytes, size_t n);
/* A program of the test's own, for other users. */
void tain_copy_file(const char *from, const char *to);

/* A file of the source or build tree; valid until the test ends. NULL, and the check has failed: not there. */
const char *tain_tree_file(const char *name);
/* The tain under test. */
const char *tain_program(void);

/* A document; freed when the test ends. NULL, and the check has failed: @text is not JSON. */
json_t *tain_json(const char *text);
json_t *tain_json_file(const char *name);
u64 json_u64(json_t *doc, const char *key);
const char *json_text(json_t *doc, const char *key);
/* The keys of @object are those of the list and no others. */
void check_keys(json_t *object, const char *const *keys);
/* @doc has those that every result has (docs/results.md), and @own, a command's; NULL: none. */
void check_result_keys(json_t *doc, const char *const *own);

/* Does /dev/kvm run guests here? Otherwise the test has been skipped with the reason. */
bool kvm_or_skip(void);
/* Is @program in PATH? Otherwise the test has been skipped. */
bool program_or_skip(const char *program);

/* The switches of the machine that --allow-system may change, as they stand. */
#define MACHINE_SWITCHES 6
#define PUT_BACK_NS (120 * NSEC_PER_SEC) /* by the guardian, after a kill; a hang */

struct machine_state {
	char text[MACHINE_SWITCHES][1024];
};

void read_machine(struct machine_state *s);
bool same_machine(const struct machine_state *a, const struct machine_state *b, size_t *differs);
/* As @before, soon. */
void check_machine(const struct machine_state *before);
/* Kill a tain of @words while it has changed them: they go back, and no process of it is left. */
void kill_in_the_middle(const char *const *words);
/* May they be changed? Otherwise the test has been skipped with the reason. */
bool may_change_the_machine(void);

/* Before and after each test. */
void cmd_env_setup(void);
void cmd_env_teardown(void);
/* Kill and free the runs of this test, but those to keep. */
void tain_end_runs(void);

#endif /* TESTS_CMD_ENV_H */
