/* SPDX-License-Identifier: MIT */
/* A guest of your own: make, then `tain run --engine kvm hello.elf -- exit=3`. */
#include <tain/guest.h>

int guest_main(struct guest *g, int argc, char **argv)
{
	guest_printf(g, "hello from vcpu %u of %u, %llu KiB of memory under test\n", guest_vcpu_id(g), guest_vcpus(g),
		     (unsigned long long)guest_data_size(g) / 1024);
	for (uint64_t at = 0; at < guest_data_size(g); at += 4096)
		guest_write64(g, guest_data_base(g) + at, at);
	return (int)guest_option(argc, argv, "exit", 0);
}
