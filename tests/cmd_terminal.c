/* SPDX-License-Identifier: MIT */
/* Progress and colours: on a terminal, and where there is none. */
#include <signal.h>
#include <string.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

#define ERASE "\r\033[K"

/* One line that is written over, and gone at the end. */
static void progress_is_one_line_on_a_terminal(void)
{
	const struct tain_setup setup = { .err_terminal = true };
	struct tain_run *r = tain_start(&setup, WORDS("stress", "-b", "1M", "-t", "1h", "--seed", "71"));
	size_t n;

	tain_expect(r, &r->err, ERASE "tain stress: ", 2);
	kill(r->pid, SIGINT);
	tain_wait(r);
	n = strlen(r->err.text);
	CHECK_EQ(r->status, 130);
	CHECK_CONTAINS(r->err.text, " accesses checked, ");
	CHECK_CONTAINS(r->err.text, " host operations, 0 violations");
	CHECK_EQ(tain_count(r->err.text, "\n"), 0);
	CHECK_MSG(n >= strlen(ERASE) && !strcmp(r->err.text + n - strlen(ERASE), ERASE), "'%s' ends erased",
		  r->err.text);
	CHECK_CONTAINS(r->out.text, "\nstopped; no violation so far\n");
	CHECK_EQ(tain_count(r->out.text, "\033"), 0); /* stdout is none */
}

static void quiet_shows_no_progress(void)
{
	const struct tain_setup setup = { .err_terminal = true };
	const struct tain_run *r = TAIN_WITH(&setup, "stress", "-q", "-b", "1M", "-t", "600ms");

	CHECK_EQ(r->status, 0);
	CHECK_STR(r->err.text, "");
}

static void a_benchmark_shows_progress(void)
{
	const struct tain_setup setup = { .err_terminal = true };
	struct tain_run *r = tain_start(&setup, WORDS("bench", "fault", "-b", "256K", "-i", "10000"));

	tain_expect(r, &r->err, ERASE "tain bench fault: ", 2);
	kill(r->pid, SIGINT);
	tain_wait(r);
	CHECK_EQ(r->status, 130);
	CHECK_CONTAINS(r->err.text, " of 150000 measurements done");
	CHECK_EQ(tain_count(r->err.text, "\n"), 0);
}

/* --- the heartbeat ---------------------------------------------------------------------------- */

static struct tain_run *heart;

void heartbeat_begin(void)
{
	cmd_env_setup();
	heart = tain_start(NULL, WORDS("stress", "-b", "64K", "-t", "11s", "-d", "10000", "-w", "0", "--seed", "72"));
	heart->keep = true;
	cmd_env_teardown();
}

/* Where there is no terminal: a whole line every ten seconds, so that a log shows life and no more. */
static void a_heartbeat_every_ten_seconds(void)
{
	struct tain_run *r;

	if (!heart) { /* this test runs alone */
		cmd_env_teardown();
		heartbeat_begin();
		cmd_env_setup();
	}
	r = heart;
	r->keep = false;
	tain_wait(r);
	CHECK_EQ(r->status, 0);
	CHECK_GE(tain_count(r->err.text, "\n"), 1); /* more on a busy machine */
	check_heartbeats(r, "stress");
	CHECK_CONTAINS(r->err.text, " s: ");
	CHECK_CONTAINS(r->err.text, " accesses checked, ");
	CHECK_CONTAINS(r->err.text, " host operations, 0 violations\n");
	CHECK_EQ(tain_count(r->err.text, "\r") + tain_count(r->err.text, "\033"), 0);
	CHECK_CONTAINS(r->out.text, "\npassed\n");
}

/* --- colours ------------------------------------------------------------------------------------ */

static const struct tain_run *on_a_terminal(const char *variable)
{
	const struct tain_setup setup = { .terminal = true, .env = WORDS(variable) };

	return TAIN_WITH(&setup, "stress", "-b", "64K", "-i", "5");
}

static void colours_on_a_terminal_only(void)
{
	CHECK_CONTAINS(on_a_terminal("NO_COLOR=")->out.text, "\033[32mpassed\033[0m");
	CHECK_CONTAINS(on_a_terminal("NO_COLOR=1")->out.text, "\npassed\r\n");
	CHECK_CONTAINS(on_a_terminal("TERM=dumb")->out.text, "\npassed\r\n");
	CHECK_EQ(tain_count(TAIN("doctor")->out.text, "\033"), 0);
}

static void doctor_in_colours(void)
{
	const struct tain_setup colour = { .terminal = true }, plain = { .terminal = true, .env = WORDS("NO_COLOR=1") };

	CHECK_CONTAINS(TAIN_WITH(&colour, "doctor")->out.text, "engine soft      \033[32mok\033[0m ");
	CHECK_CONTAINS(TAIN_WITH(&plain, "doctor")->out.text, "engine soft      ok ");
}

/* Bars of blocks where the locale has them, of # elsewhere. */
static void bars_suit_the_locale(void)
{
	const struct tain_setup utf8 = { .env = WORDS("LC_ALL=C.UTF-8") };
	const struct tain_run *blocks = TAIN_WITH(&utf8, "bench", "fault", "-b", "64K", "-i", "1");
	const struct tain_run *signs = TAIN("bench", "fault", "-b", "64K", "-i", "1");

	CHECK_GT(tain_count(blocks->out.text, "█"), 0);
	CHECK_EQ(tain_count(blocks->out.text, "#"), 0);
	CHECK_GT(tain_count(signs->out.text, "#"), 0);
	for (const char *c = signs->out.text; *c; c++)
		if (!CHECK_MSG(!(*c & 0x80), "'%s' is ASCII", c))
			break;
}

const struct test_case cmd_terminal_tests[] = {
	TEST(progress_is_one_line_on_a_terminal),
	TEST(quiet_shows_no_progress),
	TEST(a_benchmark_shows_progress),
	TEST(a_heartbeat_every_ten_seconds),
	TEST(colours_on_a_terminal_only),
	TEST(doctor_in_colours),
	TEST(bars_suit_the_locale),
	TEST_END,
};
