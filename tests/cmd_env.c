/* SPDX-License-Identifier: MIT */
/* Processes: see tests/cmd_env.h. */
#include "tests/cmd_env.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/thread.h"

/* A hang: far beyond what any run here takes, also where a processor is shared by ten; the test's watchdog comes later.
 */
#define RUN_NS (400 * NSEC_PER_SEC)
#define WORDS_MAX 64
#define ENV_MAX 512

extern char **environ;

static struct tain_run *runs; /* of this test */

/* --- starting ------------------------------------------------------------------------- */

/*
 * Sanitizers: an exit status that tain never uses, and no second of sleep at exit. Colours,
 * language and tain's own variables come from the test alone.
 */
static const char *const fixed_env[] = {
	"LC_ALL=C",
	"TERM=xterm",
	"ASAN_OPTIONS=exitcode=99",
	"UBSAN_OPTIONS=print_stacktrace=1",
	"TSAN_OPTIONS=exitcode=99:atexit_sleep_ms=0",
	NULL,
};

static bool same_name(const char *variable, const char *other)
{
	size_t n = strcspn(variable, "=");

	return !strncmp(variable, other, n + 1);
}

static bool listed(const char *const *list, const char *variable)
{
	for (; list && *list; list++)
		if (same_name(*list, variable))
			return true;
	return false;
}

static void make_env(const char *const *own, char **env)
{
	unsigned int n = 0;

	for (char **e = environ; *e && n < ENV_MAX / 2; e++)
		if (strncmp(*e, "TAIN_", 5) && strncmp(*e, "NO_COLOR=", 9) && !listed(fixed_env, *e) &&
		    !listed(own, *e))
			env[n++] = *e;
	for (const char *const *e = fixed_env; *e; e++)
		if (!listed(own, *e))
			env[n++] = (char *)*e;
	for (; own && *own && n < ENV_MAX - 1; own++)
		env[n++] = (char *)*own;
	env[n] = NULL;
}

static void make_words(const struct tain_setup *setup, const char *const *words, char **argv)
{
	unsigned int n = 0;

	for (const char *const *w = setup->before; w && *w && n < WORDS_MAX; w++)
		argv[n++] = (char *)*w;
	argv[n++] = (char *)(setup->program ?: tain_program());
	for (; *words && n < WORDS_MAX - 1; words++)
		argv[n++] = (char *)*words;
	argv[n] = NULL;
}

/* What the user typed, so that a failure can be repeated by hand. */
static void name_run(struct tain_run *r, const struct tain_setup *setup, const char *const *words)
{
	size_t n = 0;

	for (const char *const *e = setup->env; e && *e && n < sizeof(r->name); e++)
		n += (size_t)snprintf(r->name + n, sizeof(r->name) - n, "%s ", *e);
	if (n < sizeof(r->name))
		n += (size_t)snprintf(r->name + n, sizeof(r->name) - n, "tain");
	for (; *words && n < sizeof(r->name); words++)
		n += (size_t)snprintf(r->name + n, sizeof(r->name) - n, " '%s'", *words);
}

/* A pipe or a terminal whose one end the run gets. Return: that end. */
static int open_stream(struct tain_text *t, bool terminal)
{
	int fds[2], other;

	t->text = calloc(1, 1);
	if (!terminal) {
		if (pipe2(fds, O_CLOEXEC))
			BUG("pipe: %s", strerror(errno));
		t->fd = fds[0];
		return fds[1];
	}
	t->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (t->fd < 0 || grantpt(t->fd) || unlockpt(t->fd))
		BUG("no terminal: %s", strerror(errno));
	other = open(ptsname(t->fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (other < 0)
		BUG("%s: %s", ptsname(t->fd), strerror(errno));
	return other;
}

/* Signals as a shell leaves them, whatever this program's parent ignored. */
static void set_attributes(posix_spawnattr_t *attr, bool group)
{
	sigset_t none, usual;

	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGINT);
	sigaddset(&usual, SIGTERM);
	sigaddset(&usual, SIGHUP);
	sigaddset(&usual, SIGPIPE);
	sigaddset(&usual, SIGXFSZ);
	posix_spawnattr_init(attr);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &usual);
	posix_spawnattr_setflags(attr,
				 POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (group ? POSIX_SPAWN_SETPGROUP : 0));
}

static void set_streams(const struct tain_setup *setup, posix_spawn_file_actions_t *actions, int out, int err)
{
	posix_spawn_file_actions_init(actions);
	posix_spawn_file_actions_addchdir_np(actions, tain_dir());
	posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (setup->out_path)
		posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, setup->out_path, O_WRONLY, 0);
	else
		posix_spawn_file_actions_adddup2(actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(actions, setup->terminal ? out : err, STDERR_FILENO);
	if (setup->out_closed)
		posix_spawn_file_actions_addclose(actions, STDOUT_FILENO);
}

struct tain_run *tain_start(const struct tain_setup *setup, const char *const *words)
{
	static const struct tain_setup plain;
	struct tain_run *r = calloc(1, sizeof(*r));
	char *env[ENV_MAX], *argv[WORDS_MAX + 2];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int out, err, ret;

	setup = setup ?: &plain;
	r->next = runs;
	runs = r;
	name_run(r, setup, words);
	make_env(setup->env, env);
	make_words(setup, words, argv);
	out = open_stream(&r->out, setup->terminal);
	err = open_stream(&r->err, setup->err_terminal);
	set_streams(setup, &actions, out, err);
	set_attributes(&attr, setup->group);
	ret = posix_spawnp(&r->pid, argv[0], &actions, &attr, argv, env);
	if (ret)
		BUG("cannot run %s: %s", argv[0], strerror(ret));
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(out);
	close(err);
	return r;
}

/* --- reading -------------------------------------------------------------------------- */

static void read_some(struct tain_text *t)
{
	char bytes[8192];
	ssize_t n = read(t->fd, bytes, sizeof(bytes));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) { /* a terminal's end is EIO */
		close(t->fd);
		t->fd = -1;
		return;
	}
	t->text = realloc(t->text, t->bytes + (size_t)n + 1);
	memcpy(t->text + t->bytes, bytes, (size_t)n);
	t->bytes += (size_t)n;
	t->text[t->bytes] = '\0';
}

/* Take what comes within @ns. Return: false when both streams are at their end. */
static bool pump(struct tain_run *r, u64 ns)
{
	struct pollfd p[] = { { .fd = r->out.fd, .events = POLLIN }, { .fd = r->err.fd, .events = POLLIN } };

	if (r->out.fd < 0 && r->err.fd < 0)
		return false;
	if (poll(p, ARRAY_SIZE(p), (int)(ns / NSEC_PER_MSEC)) <= 0)
		return true;
	if (p[0].revents)
		read_some(&r->out);
	if (p[1].revents)
		read_some(&r->err);
	return true;
}

unsigned int tain_count(const char *text, const char *part)
{
	unsigned int n = 0;

	for (; (text = strstr(text, part)) != NULL; text += strlen(part))
		n++;
	return n;
}

bool tain_expect(struct tain_run *r, const struct tain_text *stream, const char *part, unsigned int n)
{
	u64 end = clock_ns() + RUN_NS;

	while (tain_count(stream->text, part) < n)
		if (!pump(r, 50 * NSEC_PER_MSEC) || clock_ns() > end)
			break;
	return CHECK_MSG(tain_count(stream->text, part) >= n, "%s: '%s' %u times over in '%s'; stderr '%s'", r->name,
			 part, n, stream->text, r->err.text);
}

/* Does a line of progress say that the guests and the host have both done something? */
static bool shows_work(const char *text)
{
	static const char checked[] = " accesses checked, ", ops[] = " host operations, ";

	while ((text = strstr(text, checked)) != NULL) {
		const char *end = strstr(text, ops);

		/* of " 0 accesses checked, 0 host operations, " neither */
		if (end && strncmp(text - 2, " 0", 2) && strncmp(end - 2, " 0", 2))
			return true;
		text += strlen(checked);
	}
	return false;
}

bool tain_expect_work(struct tain_run *r)
{
	u64 end = clock_ns() + RUN_NS;

	while (!shows_work(r->err.text))
		if (!pump(r, 50 * NSEC_PER_MSEC) || clock_ns() > end)
			break;
	return CHECK_MSG(shows_work(r->err.text), "%s: no progress in '%s'", r->name, r->err.text);
}

/* --- ending --------------------------------------------------------------------------- */

/* Does a defect of tain show in what it said? */
static void check_clean(const struct tain_run *r)
{
	static const char *const marks[] = { "Sanitizer", "runtime error:", "tain: BUG", "DEADLYSIGNAL" };

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		CHECK_MSG(!strstr(r->err.text, marks[i]), "%s: stderr '%s'", r->name, r->err.text);
		CHECK_MSG(!strstr(r->out.text, marks[i]), "%s: stdout '%s'", r->name, r->out.text);
	}
	CHECK_MSG(r->status != 99, "%s: a sanitizer ended it; stderr '%s'", r->name, r->err.text);
}

bool tain_has_ended(const struct tain_run *r)
{
	siginfo_t info = { .si_pid = 0 };

	return waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid;
}

static void collect(struct tain_run *r)
{
	int status;

	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	r->pid = 0;
	r->killed = WIFSIGNALED(status);
	r->status = r->killed ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void tain_wait(struct tain_run *r)
{
	u64 end = clock_ns() + RUN_NS;

	while (pump(r, 200 * NSEC_PER_MSEC))
		if (clock_ns() > end)
			break;
	if (!CHECK_MSG(r->out.fd < 0 && r->err.fd < 0, "%s does not end; stdout '%s' stderr '%s'", r->name, r->out.text,
		       r->err.text))
		kill(r->pid, SIGKILL);
	collect(r);
	check_clean(r);
}

void check_heartbeats(const struct tain_run *r, const char *command)
{
	const char *text = r->err.text, *end;
	char begin[48];

	snprintf(begin, sizeof(begin), "tain %s: ", command);
	for (; *text; text = end + 1) {
		end = strchrnul(text, '\n');
		CHECK_MSG(*end && !strncmp(text, begin, strlen(begin)), "%s: stderr '%s'", r->name, r->err.text);
		if (!*end)
			return;
	}
}

void tain_pause(u64 ms)
{
	thread_sleep_ns(ms * NSEC_PER_MSEC);
}

const struct tain_run *tain_run(const struct tain_setup *setup, const char *const *words)
{
	struct tain_run *r = tain_start(setup, words);

	tain_wait(r);
	CHECK_MSG(!r->killed, "%s: killed by signal %d; stderr '%s'", r->name, r->status - 128, r->err.text);
	return r;
}

static void free_text(struct tain_text *t)
{
	if (t->fd >= 0)
		close(t->fd);
	free(t->text);
}

void tain_end_runs(void)
{
	struct tain_run **link = &runs, *r;

	while ((r = *link) != NULL) {
		if (r->keep) {
			link = &r->next;
			continue;
		}
		if (r->pid) {
			kill(r->pid, SIGKILL);
			collect(r);
		}
		*link = r->next;
		free_text(&r->out);
		free_text(&r->err);
		free(r);
	}
}

bool tain_gone(int pid)
{
	char path[32], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return true;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 'X'; /* it ends at this moment */
	fclose(file);
	return state == 'Z' || state == 'X';
}
