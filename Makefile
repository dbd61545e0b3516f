# SPDX-License-Identifier: MIT
#
# One makefile, not recursive. Everything is built below build/:
#
#   build/tain                 release          build/prove/tain   checker, race points, mutants, hostile mode
#   build/libtain.a, .so       release          build/asan/tain    the same under ASan and UBSan
#   build/guest/NAME.elf       bare guests      build/tsan/tain    the same under TSan

CC ?= gcc
AR ?= ar
PREFIX ?= /usr/local
prefix ?= $(PREFIX)
DESTDIR ?=
PKG_CONFIG ?= pkg-config

VERSION := 0.1.0
B := build

ifeq ($(origin CC),default)
CC := gcc
endif

PKGS := liburcu-memb jansson libelf libxxhash libtracefs libtraceevent
# Loaded at run time where somebody asks for the engine qemu; only their headers are needed here, and not even those.
VIRT_PKGS := libvirt libvirt-qemu libxml-2.0
VIRT_CFLAGS := $(shell $(PKG_CONFIG) --exists $(VIRT_PKGS) && echo -DTAIN_LIBVIRT && $(PKG_CONFIG) --cflags $(VIRT_PKGS))
# Fields left out of a const table are zero on purpose; clang would have each of them written.
WARN := -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers -Wmissing-prototypes -Wstrict-prototypes -Wvla
COMMON := -std=gnu17 -g $(WARN) -D_GNU_SOURCE -D_LGPL_SOURCE -DTAIN_VERSION=\"$(VERSION)\" -I. -Iinclude \
	-fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-strict-aliasing -pthread -MMD -MP \
	$(shell $(PKG_CONFIG) --cflags $(PKGS)) $(VIRT_CFLAGS)
LIBS := $(shell $(PKG_CONFIG) --libs $(PKGS)) -pthread
STATIC_LIBS = $(shell $(PKG_CONFIG) --static --libs $(PKGS)) -pthread
TEST_LIBS := -lcunit

CFLAGS_release := -O2 -DNDEBUG
CFLAGS_prove := -O1 -fno-omit-frame-pointer -DTAIN_CHECKING -DTAIN_PROVE
CFLAGS_asan := -O1 -fno-omit-frame-pointer -DTAIN_CHECKING -fsanitize=address,undefined -fno-sanitize-recover=undefined
CFLAGS_tsan := -O1 -fno-omit-frame-pointer -DTAIN_CHECKING -fsanitize=thread
# The sanitizers intercept libtirpc's functions, which libvirt calls, and look for the true ones once, at the start.
TIRPC := $(filter /%,$(if $(VIRT_CFLAGS),$(shell $(CC) -print-file-name=libtirpc.so.3)))
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread
ifneq ($(TIRPC),)
LDFLAGS_asan += -Wl,--no-as-needed $(TIRPC) -Wl,--as-needed
LDFLAGS_tsan += -Wl,--no-as-needed $(TIRPC) -Wl,--as-needed
endif
VARIANTS := release prove asan tsan

# Rooms, bottom up. The order is the include order; scripts/check-includes enforces it.
LAB := $(addprefix lab/,system host uffd trace plan machine stress result matrix bench)
ROOMS := lib notifier mm mm/policy mm/op mmu vmm $(LAB)
LIB_SRCS := $(sort $(wildcard $(addsuffix /*.c,$(ROOMS))))
ifeq ($(VIRT_CFLAGS),)
LIB_SRCS := $(filter-out vmm/qemu%.c vmm/virt%.c,$(LIB_SRCS)) vmm/qemu_absent.c
else
LIB_SRCS := $(filter-out vmm/qemu_absent.c,$(LIB_SRCS))
endif
GUEST_SRCS := $(sort $(wildcard guest/*.c))
CMD_SRCS := $(sort $(wildcard cmd/*.c))
TEST_ROOMS := $(patsubst tests/%_test.c,%,$(sort $(wildcard tests/*_test.c)))

# What runs is named in a word; V=1 shows the whole command.
ifeq ($(V),1)
say =
hush =
else
say = @$(if $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS)))),,printf '  %-7s %s\n' '$(1)' '$(2)';)
hush = @
endif

.PHONY: FORCE all check check-ept soak peers bench install uninstall clean asan tsan prove format lint release-tests
.DEFAULT_GOAL := all
.SECONDARY:

# --- bare guests ------------------------------------------------------------
-include guest/guest.mk

# --- one variant ------------------------------------------------------------
define variant
OBJ_$(1) := $$(LIB_SRCS:%.c=$(B)/obj/$(1)/%.o) $$(GUEST_SRCS:%.c=$(B)/obj/$(1)/%.o) $$(GUEST_EMBED:%=$(B)/obj/$(1)/%)
CMD_OBJ_$(1) := $$(CMD_SRCS:%.c=$(B)/obj/$(1)/%.o)
OUT_$(1) := $(if $(filter release,$(1)),$(B),$(B)/$(1))

$(B)/obj/$(1)/guest/%.o: guest/%.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)$$(CC) $$(COMMON) $$(CFLAGS_$(1)) $$(CFLAGS) -DGUEST_NATIVE -c $$< -o $$@

$(B)/obj/$(1)/%.o: %.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)$$(CC) $$(COMMON) $$(CFLAGS_$(1)) $$(CFLAGS) -c $$< -o $$@

$$(OUT_$(1))/libtain.a: $$(OBJ_$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call say,AR,$$@)$$(AR) rcs $$@ $$^

$$(OUT_$(1))/tain: $$(CMD_OBJ_$(1)) $$(OUT_$(1))/libtain.a
	$$(call say,LINK,$$@)$$(CC) $$(LDFLAGS_$(1)) $$(LDFLAGS) $$(CMD_OBJ_$(1)) $$(OUT_$(1))/libtain.a $$(LIBS) -o $$@

# tests/ROOM_test.c and tests/ROOM_*.c make one program
$$(OUT_$(1))/tests/%_test: $$(OUT_$(1))/libtain.a
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)$$(CC) $$(LDFLAGS_$(1)) $$(LDFLAGS) $$(filter %.o,$$^) $$(OUT_$(1))/libtain.a $$(LIBS) $$(TEST_LIBS) -o $$@
endef
$(foreach v,$(VARIANTS),$(eval $(call variant,$(v))))

# cmd_test runs the command of its own variant.
$(foreach v,$(VARIANTS),$(eval $(if $(filter release,$(v)),$(B),$(B)/$(v))/tests/cmd_test: $(if $(filter release,$(v)),$(B),$(B)/$(v))/tain))

define test_program
$(if $(filter release,$(1)),$(B),$(B)/$(1))/tests/$(2)_test: $(patsubst %.c,$(B)/obj/$(1)/%.o,$(sort tests/$(2)_test.c $(wildcard tests/$(2)_*.c)) $(wildcard tests/test.c))
endef
$(foreach v,$(VARIANTS),$(foreach t,$(TEST_ROOMS),$(eval $(call test_program,$(v),$(t)))))

# The release without shared libraries, for the lanes' machines: nothing else is in them.
STATIC_OBJ := $(if $(VIRT_CFLAGS),$(B)/obj/static/vmm/virt_dl.o)

$(B)/obj/static/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(COMMON) $(CFLAGS_release) $(CFLAGS) -DTAIN_STATIC -c $< -o $@

$(B)/tain-static: $(CMD_OBJ_release) $(STATIC_OBJ) $(B)/libtain.a
	$(call say,LINK,$@)$(CC) -static -Wl,--no-warnings $(LDFLAGS) $(CMD_OBJ_release) $(STATIC_OBJ) $(B)/libtain.a $(STATIC_LIBS) -o $@

$(B)/tests/vmm_test-static: $(patsubst %.c,$(B)/obj/release/%.o,$(sort $(wildcard tests/vmm_*.c)) tests/test.c) \
		$(B)/obj/guest/test/image.o $(B)/libtain.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) -static $(LDFLAGS) $(filter %.o,$^) $(B)/libtain.a $(STATIC_LIBS) $(TEST_LIBS) -o $@

all: $(B)/tain $(B)/libtain.a $(B)/libtain.so $(B)/tain.pc
prove: $(B)/prove/tain $(TEST_ROOMS:%=$(B)/prove/tests/%_test)
asan: $(B)/asan/tain $(TEST_ROOMS:%=$(B)/asan/tests/%_test)
tsan: $(B)/tsan/tain $(TEST_ROOMS:%=$(B)/tsan/tests/%_test)
release-tests: $(TEST_ROOMS:%=$(B)/tests/%_test)

# --- the shared library: what include/tain declares, and nothing else --------
SONAME := libtain.so.$(firstword $(subst ., ,$(VERSION)))

$(B)/libtain.so: $(OBJ_release) lib/libtain.map
	$(call say,LINK,$@)$(CC) -shared $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script=lib/libtain.map -Wl,-z,defs \
		$(OBJ_release) $(LIBS) -o $@

# Where the loader does not look of itself, what is linked against it remembers the place.
RPATH = $(if $(filter-out /usr /usr/local,$(prefix)), -Wl$(comma)-rpath$(comma)$${libdir})
comma := ,

# Made each time: it holds the prefix, which may be another one than the last time.
$(B)/tain.pc: lib/tain.pc.in Makefile FORCE
	@mkdir -p $(@D)
	$(hush)sed -e 's|@prefix@|$(prefix)|' -e 's|@version@|$(VERSION)|' -e 's|@requires@|$(PKGS)|' \
		-e 's|@rpath@|$(RPATH)|' $< > $@

# --- install -----------------------------------------------------------------
PUBLIC := $(sort $(wildcard include/tain/*.h))
MAN := $(sort $(wildcard docs/*.1))
D := $(DESTDIR)$(prefix)

install: all install-guest
	install -d $(D)/bin $(D)/lib/pkgconfig $(D)/include/tain $(D)/share/man/man1 $(D)/share/doc/tain
	install -m 755 $(B)/tain $(D)/bin/tain
	install -m 644 $(B)/libtain.a $(D)/lib/libtain.a
	install -m 755 $(B)/libtain.so $(D)/lib/libtain.so.$(VERSION)
	ln -sf libtain.so.$(VERSION) $(D)/lib/$(SONAME)
	ln -sf $(SONAME) $(D)/lib/libtain.so
	install -m 644 $(B)/tain.pc $(D)/lib/pkgconfig/tain.pc
	install -m 644 $(PUBLIC) $(D)/include/tain
	install -m 644 $(MAN) $(D)/share/man/man1
	install -m 644 README.md LICENSE $(D)/share/doc/tain

uninstall: uninstall-guest
	rm -f $(D)/bin/tain $(D)/lib/libtain.a $(D)/lib/libtain.so $(D)/lib/$(SONAME) $(D)/lib/libtain.so.$(VERSION)
	rm -f $(D)/lib/pkgconfig/tain.pc $(MAN:docs/%=$(D)/share/man/man1/%)
	rm -rf $(D)/include/tain $(D)/share/doc/tain

# --- checks --------------------------------------------------------------------
check:
	scripts/check

# The same commands on a real EPT, emulated: minutes, and worth them. Without the peer one of its figures is skipped.
check-ept:
	-scripts/peers --lane
	scripts/lane ept

# Every operation on every backing of Linux under real guests, machine-wide switches too; they are put back.
# For ten minutes, or another time, `make soak SOAK=8h`, or until so many accesses are checked: SOAK=10000000000.
# And 100 domains, one after the other, that leave nothing; all that is done to one from outside; and twenty
# comparisons of a command with itself, of which one may say that it differs.
SOAK := 10m
soak: $(B)/tain $(B)/tests/vmm_test
	scripts/compare-self
	TAIN_CYCLES=100 scripts/libvirt-up run $(B)/tests/vmm_test qemu.cycles
	scripts/libvirt-up run scripts/oracle-outside 10000000 --allow-system
	scripts/oracle-run kvm $(SOAK) system $$($(B)/tain list backings -q)

# KVM's selftests and tain in turn.
peers:
	scripts/peers --run

bench: $(B)/tain
	scripts/bench

# sparse knows neither of these two builtins.
SPARSE := sparse -Wsparse-error -std=gnu17 -D_GNU_SOURCE -D_LGPL_SOURCE -DTAIN_VERSION=\"$(VERSION)\" -I. -Iinclude \
	'-D__builtin_ia32_rdtsc()=0ull' '-D__builtin_ia32_lfence()=0' $(shell $(PKG_CONFIG) --cflags $(PKGS)) $(VIRT_CFLAGS)
C_FILES := $(sort $(wildcard include/tain/*.h $(foreach d,$(ROOMS) guest guest/rt cmd tests $(wildcard examples/*),$(d)/*.c $(d)/*.h)))

lint:
	scripts/check-includes
	scripts/check-symbols
	scripts/check-locks
	scripts/check-options
	scripts/check-peers
	scripts/check-runs
	shellcheck $(shell grep -rlE '^#!.*[/ ](ba|busybox )?sh$$' scripts examples .ci)
	$(call say,SPARSE,every source)for file in $(LIB_SRCS) $(CMD_SRCS); do $(SPARSE) $$file && $(SPARSE) -DTAIN_CHECKING $$file || exit 1; done
	$(call say,FORMAT,every source)clang-format --dry-run --Werror $(C_FILES)
	mandoc -T lint -W warning $(MAN)

format:
	clang-format -i $(C_FILES)

clean:
	rm -rf $(B)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
