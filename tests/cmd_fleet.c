/* SPDX-License-Identifier: MIT */
/*
 * examples/fleet: the scripts and manifests do what docs/fleet.md says. What would start them is played here:
 * Slurm and Kubernetes by their environment variables, srun and ssh by a script that runs what it is given.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmd_env.h"
#include "tests/cmd_suites.h"

/* --- the other side ---------------------------------------------------------------------- */

static void write_script(const char *name, const char *text)
{
	tain_write_file(name, text, strlen(text));
	if (chmod(tain_path(name), 0755))
		BUG("chmod: %s", strerror(errno));
}

/* PATH begins with a directory where `tain` is the one under test. */
static const char *path_variable(void)
{
	static char path[4096];

	if (mkdir(tain_path("bin"), 0755) || symlink(tain_program(), tain_path("bin/tain")))
		BUG("bin: %s", strerror(errno));
	write_script("bin/srun", "#!/bin/sh\n[ \"$1\" = --cpus-per-task=3 ] || exit 99\nshift\nexec \"$@\"\n");
	/* -p PORT HOST COMMAND: a shell gets the command; who was called is noted */
	write_script("bin/ssh", "#!/bin/sh\necho \"$1 $2 $3\" >>called\nexec sh -c \"$4\"\n");
	snprintf(path, sizeof(path), "PATH=%s:%s", tain_path("bin"), getenv("PATH"));
	return path;
}

#define SMALL "TAIN_ENGINE=soft", "TAIN_BYTES=256K", "TAIN_ITERATIONS=30", "TAIN_TIME=50s"

static const struct tain_run *run_shell(const char *const *env, const char *script, const char *const *words)
{
	const struct tain_setup setup = { .env = env, .program = tain_tree_file(script) };

	return tain_run(&setup, words);
}

static void check_merged(const char *name, u64 parts)
{
	json_t *doc = tain_json_file(name), *ops = json_object_get(doc, "host_ops"), *count;
	const char *op;
	u64 sum = 0;

	json_object_foreach(ops, op, count) sum += (u64)json_integer_value(count);
	CHECK_EQ(sum, 30);
	CHECK_EQ(json_u64(doc, "status"), 0);
	CHECK_EQ(json_array_size(json_object_get(doc, "parts")), parts);
	CHECK_EQ(json_array_size(json_object_get(doc, "warnings")), 0);
}

/* --- Slurm --------------------------------------------------------------------------------- */

static void run_task(const char *path, const char *task)
{
	char id[40];
	const struct tain_run *r;

	snprintf(id, sizeof(id), "SLURM_ARRAY_TASK_ID=%s", task);
	r = run_shell(WORDS(path, id, "SHARDS=3", "SEED=5", "RESULTS=out", SMALL), "examples/fleet/stress.sbatch",
		      WORDS(NULL));
	CHECK_MSG(!r->status, "task %s: status %d, '%s'", task, r->status, r->err.text);
	CHECK_CONTAINS(r->out.text, "of seed 5\n");
}

static void slurm(void)
{
	const char *path = path_variable();
	const struct tain_run *r;

	run_task(path, "1");
	run_task(path, "3");
	r = run_shell(WORDS(path, "RESULTS=out"), "examples/fleet/merge.sbatch", WORDS(NULL));
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, "1 of 3 shards of seed 5 is missing: 2\n");
	run_task(path, "2");
	run_task(path, "3"); /* again: it takes its own place */
	r = run_shell(WORDS(path, "RESULTS=out"), "examples/fleet/merge.sbatch", WORDS(NULL));
	CHECK_MSG(!r->status, "%s", r->err.text);
	check_merged("out/merged.json", 3);
}

/* Every #SBATCH line before the first command, or Slurm does not read it; and as many tasks as shards. */
static void slurm_reads_its_lines(void)
{
	for (const char *const *name = WORDS("examples/fleet/stress.sbatch", "examples/fleet/merge.sbatch"); *name;
	     name++) {
		FILE *file = fopen(tain_tree_file(*name), "re");
		unsigned int options = 0;
		bool command = false;
		char line[256];

		REQUIRE(file);
		while (fgets(line, sizeof(line), file)) {
			if (!strncmp(line, "#SBATCH ", 8)) {
				CHECK_MSG(!command, "%s: '%s' is behind a command", *name, line);
				options++;
			}
			command |= line[0] != '#' && line[0] != '\n';
			if (strstr(line, "--array=") && !strncmp(line, "#SBATCH", 7))
				CHECK_STR(line, "#SBATCH --array=1-16\n");
			if (strstr(line, "SHARDS:="))
				CHECK_CONTAINS(line, "${SHARDS:=16}");
		}
		fclose(file);
		CHECK_GE(options, 5);
	}
}

/* --- Kubernetes ------------------------------------------------------------------------------ */

/* Every document of the manifest; then of the Job what is looked at: its command's words, one a line. */
static const char manifest_program[] =
	"import sys, yaml\n"
	"docs = list(yaml.safe_load_all(open(sys.argv[1])))\n"
	"assert all(d['apiVersion'] and d['kind'] and d['metadata']['name'] for d in docs)\n"
	"job = docs[-1]\n"
	"assert job['kind'] == 'Job' and job['apiVersion'] == 'batch/v1'\n"
	"pod = job['spec']['template']['spec']\n"
	"assert pod['restartPolicy'] == 'Never'\n"
	"box = pod['containers'][0]\n"
	"env = {e['name']: e['value'] for e in box['env']}\n"
	"assert all(isinstance(v, str) for v in env.values()), 'an environment holds text'\n"
	"mounts = [m['name'] for m in box['volumeMounts']]\n"
	"assert mounts == [v['name'] for v in pod['volumes']]\n"
	"assert env['RESULTS'] == box['volumeMounts'][0]['mountPath']\n"
	"if 'SHARDS' in env:\n"
	"    spec = job['spec']\n"
	"    assert spec['completionMode'] == 'Indexed' and str(spec['completions']) == env['SHARDS']\n"
	"    assert spec['backoffLimitPerIndex'] == 0\n"
	"    assert docs[0]['metadata']['name'] == pod['volumes'][0]['persistentVolumeClaim']['claimName']\n"
	"assert box['command'][:2] == ['sh', '-c'] and len(box['command']) == 3\n"
	"print(box['command'][2])\n";

/* What the pod's shell is told; NULL: skipped or failed. */
static const char *command_of(const char *manifest)
{
	const struct tain_setup setup = { .program = "/usr/bin/python3" };
	const struct tain_run *r;

	if (access(setup.program, X_OK) || tain_run(&setup, WORDS("-c", "import yaml"))->status) {
		test_skip("python3 with yaml is not here (python3-yaml)");
		return NULL;
	}
	r = tain_run(&setup, WORDS("-c", manifest_program, tain_tree_file(manifest)));
	return CHECK_MSG(!r->status, "%s: %s", manifest, r->err.text) ? r->out.text : NULL;
}

static void run_pod(const char *path, const char *command, const char *index)
{
	const struct tain_setup setup = {
		.program = "/bin/sh",
		.env = WORDS(path, index, "SHARDS=3", "SEED=5", "RESULTS=.", SMALL),
	};
	const struct tain_run *r = tain_run(&setup, WORDS("-c", command));

	CHECK_MSG(!r->status, "%s: status %d, '%s'", index, r->status, r->err.text);
}

static void kubernetes(void)
{
	const char *stress = command_of("examples/fleet/stress-job.yaml"), *merge, *path;

	if (!stress)
		return;
	merge = command_of("examples/fleet/merge-job.yaml");
	REQUIRE(merge);
	path = path_variable();
	run_pod(path, stress, "JOB_COMPLETION_INDEX=0");
	run_pod(path, stress, "JOB_COMPLETION_INDEX=1");
	run_pod(path, stress, "JOB_COMPLETION_INDEX=2");
	CHECK_STR(json_text(json_object_get(tain_json_file("shard-2.json"), "options"), "shard"), "3/3");
	run_pod(path, merge, "NONE=1");
	check_merged("merged.json", 3);
}

/* --- URIs --------------------------------------------------------------------------------------- */

/* Does the file hold @part? */
static bool file_says(const char *path, const char *part)
{
	FILE *file = fopen(path, "re");
	char text[1024] = "";

	if (!file)
		return false;
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	return strstr(text, part);
}

/* Engine qemu, played by soft: what matters is who is called with which words. */
static const char fake_tain[] = "#!/bin/sh\n"
				"echo \"$*\" >>words\n"
				"case $* in *broken*) echo 'tain: no libvirtd' >&2; exit 4;; esac\n"
				"n=$#\nwhile [ $n -gt 0 ]; do n=$((n - 1)); w=$1; shift\n"
				"case $w in qemu) w=soft;; --connect) shift; n=$((n - 1)); continue;; esac\n"
				"set -- \"$@\" \"$w\"; done\nexec real \"$@\"\n";

static const char *fake_path(void)
{
	const char *path = path_variable();

	if (rename(tain_path("bin/tain"), tain_path("bin/real")))
		BUG("rename: %s", strerror(errno));
	write_script("bin/tain", fake_tain);
	return path;
}

static void uris(void)
{
	const char *path = fake_path();
	const struct tain_run *r;

	r = run_shell(WORDS(path), "examples/fleet/uris.sh",
		      WORDS("7", "out", "qemu:///system", "qemu+ssh://root@node2:2222/session", "--", "-i", "30",
			    "--ops", "munmap,remap"));
	CHECK_MSG(!r->status, "status %d: %s", r->status, r->err.text);
	check_merged("out/merged.json", 2);
	CHECK(file_says(tain_path("words"),
			"--shard 1/2 -i 30 --ops munmap,remap --json - --connect qemu:///system\n"));
	CHECK(file_says(tain_path("words"),
			"--shard 2/2 -i 30 --ops munmap,remap --json - --connect qemu:///session\n"));
	CHECK(file_says(tain_path("called"), "-p 2222 root@node2\n"));
	/* one that fails is named, and its result of the last time is not taken for a new one */
	r = run_shell(WORDS(path), "examples/fleet/uris.sh",
		      WORDS("7", "out", "qemu:///system", "broken", "--", "-i", "30"));
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, "uris.sh: broken: no result (status 4): tain: no libvirtd\n");
	CHECK_CONTAINS(r->err.text, "1 of 2 shards of seed 7 is missing: 2\n");
	CHECK_EQ(run_shell(WORDS(path), "examples/fleet/uris.sh", WORDS("7", "out"))->status, 2);
	CHECK_EQ(run_shell(WORDS(path), "examples/fleet/uris.sh", WORDS("7", "out", "--", "-i", "3"))->status, 2);
}

/* What they found until then is merged; and it is said that they were ended. */
static void a_signal_ends_the_shards(void)
{
	const struct tain_setup setup = {
		.env = WORDS(fake_path()),
		.program = tain_tree_file("examples/fleet/uris.sh"),
	};
	struct tain_run *r = tain_start(&setup, WORDS("7", "out", "a", "b", "--", "-t", "1h", "-b", "256K"));
	const char *logs[] = { tain_path("out/shard-1.log"), tain_path("out/shard-2.log") };

	while ((!file_says(logs[0], "1/2 of seed 7\n") || !file_says(logs[1], "2/2 of seed 7\n")) && !tain_has_ended(r))
		tain_pause(5); /* the test's watchdog is the limit */
	kill(r->pid, SIGTERM);
	tain_wait(r);
	CHECK_EQ(r->status, 1);
	CHECK_CONTAINS(r->err.text, "tain: warning: 2 of 2 parts were ended by a signal, the first of them "
				    "out/shard-1.json: what they found counts\n");
	CHECK_EQ(json_array_size(json_object_get(tain_json_file("out/merged.json"), "parts")), 2);
}

const struct test_case cmd_fleet_tests[] = {
	TEST(slurm), TEST(slurm_reads_its_lines),    TEST(kubernetes),
	TEST(uris),  TEST(a_signal_ends_the_shards), TEST_END,
};
