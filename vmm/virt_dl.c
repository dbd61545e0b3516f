/* SPDX-License-Identifier: MIT */
/* Shared libraries at run time. A static program has no dynamic loader: for it this file is built with TAIN_STATIC. */
#include "lib/base.h"
#include "lib/err.h"

#ifndef TAIN_STATIC
#include <dlfcn.h>
#endif

void *virt_dl_open(const char *library, struct err *why);
void *virt_dl_symbol(void *library, const char *name);

#ifdef TAIN_STATIC

void *virt_dl_open(const char *library, struct err *why)
{
	err_set(why, -EOPNOTSUPP, "this tain is static and cannot load %s", library);
	return NULL;
}

void *virt_dl_symbol(void *library, const char *name)
{
	(void)library;
	(void)name;
	return NULL;
}

#else

void *virt_dl_open(const char *library, struct err *why)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		err_set(why, -EOPNOTSUPP, "%s: install libvirt (apt-get install libvirt0)", dlerror());
	return handle;
}

void *virt_dl_symbol(void *library, const char *name)
{
	return dlsym(library, name);
}

#endif
