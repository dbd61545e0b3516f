# SPDX-License-Identifier: MIT
#
# The bare x86-64 side: libtain-guest.a, one ELF file per workload, the copies of
# those inside libtain, and the files a guest author installs.

GUEST_NAMES := $(shell sed -n 's/^[[:space:]]*X.\([a-z0-9_]*\), .*/\1/p' guest/workloads.h)
GUEST_ELFS := $(GUEST_NAMES:%=$(B)/guest/%.elf)
GUEST_OBJ := $(B)/obj/guest
GUEST_RT_OBJ := $(addprefix $(GUEST_OBJ)/,guest/rt/entry.o guest/rt/boot.o guest/rt/start.o guest/rt/linux_start.o guest/rt/linux.o \
	guest/rt/crt.o guest/rt/mem.o guest/rt/agent.o guest/rt/balloon.o guest/api.o)

# Anything the host's compiler adds by default (PIE, CET, stack protector) has no runtime here; no red zone and no SSE
# keep a guest's state small. CFLAGS of the host's variants do not apply: there is one guest.
GUEST_CFLAGS := -std=gnu17 -O2 -g $(WARN) -I. -Iinclude -MMD -MP -ffreestanding -fno-pic -fno-pie -fno-stack-protector \
	-fcf-protection=none -fno-asynchronous-unwind-tables -mno-red-zone -mgeneral-regs-only -fno-strict-aliasing
GUEST_LDFLAGS := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack \
	-Wl,-T,guest/rt/tain-guest.ld -Wl,-u,guest_start

# Each variant of libtain embeds the ELF files; see the variable's use in the Makefile.
GUEST_EMBED := guest/images.o

$(GUEST_OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(GUEST_CFLAGS) -c $< -o $@

$(GUEST_OBJ)/%.o: %.S
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(GUEST_CFLAGS) -c $< -o $@

$(B)/libtain-guest.a: $(GUEST_RT_OBJ)
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(B)/guest/%.elf: $(GUEST_OBJ)/guest/%.o $(B)/libtain-guest.a guest/rt/tain-guest.ld
	@mkdir -p $(@D)
	$(call say,GUEST,$@)$(CC) $(GUEST_LDFLAGS) $< $(B)/libtain-guest.a -o $@

$(VARIANTS:%=$(B)/obj/%/guest/images.o): guest/images.S guest/workloads.h $(GUEST_ELFS)
	@mkdir -p $(@D)
	$(call say,AS,$@)$(CC) -I. -Wa,-I$(B)/guest -c $< -o $@

# The tests' own guest goes into their program alone.
$(B)/obj/guest/test/image.o: guest/test/image.S $(B)/guest/test/probe.elf
	@mkdir -p $(@D)
	$(call say,AS,$@)$(CC) -Wa,-I$(B)/guest -c $< -o $@

$(B)/tests/vmm_test $(VARIANTS:%=$(B)/%/tests/vmm_test): $(B)/obj/guest/test/image.o
# That of the command gives its name to tain.
$(B)/tests/cmd_test $(VARIANTS:%=$(B)/%/tests/cmd_test): $(B)/guest/test/probe.elf

$(B)/tain-guest.pc: guest/tain-guest.pc.in Makefile FORCE
	@mkdir -p $(@D)
	$(hush)sed -e 's|@prefix@|$(prefix)|' -e 's|@version@|$(VERSION)|' $< > $@

.PHONY: install-guest uninstall-guest
install-guest: $(B)/libtain-guest.a $(B)/tain-guest.pc
	install -d $(DESTDIR)$(prefix)/lib/pkgconfig $(DESTDIR)$(prefix)/include/tain
	install -m 644 $(B)/libtain-guest.a guest/rt/tain-guest.ld $(DESTDIR)$(prefix)/lib
	install -m 644 $(B)/tain-guest.pc $(DESTDIR)$(prefix)/lib/pkgconfig
	install -m 644 include/tain/guest.h $(DESTDIR)$(prefix)/include/tain

uninstall-guest:
	rm -f $(addprefix $(DESTDIR)$(prefix)/lib/,libtain-guest.a tain-guest.ld pkgconfig/tain-guest.pc)
	rm -f $(DESTDIR)$(prefix)/include/tain/guest.h
