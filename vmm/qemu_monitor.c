/* SPDX-License-Identifier: MIT */
/* QEMU's monitor, through libvirt: what its own API has no call for. */
#include <jansson.h>
#include <stdlib.h>

#include "vmm/qemu_internal.h"

json_t *qemu_monitor(const struct qemu_domain *d, const char *command, struct err *err)
{
	json_t *reply = NULL, *value;
	char *text = NULL;

	if (virt->virDomainQemuMonitorCommand(d->handle, command, &text, 0)) {
		virt_error(err, d->name);
		return NULL;
	}
	reply = json_loads(text, 0, NULL);
	free(text);
	value = json_object_get(reply, "return");
	if (value)
		json_incref(value);
	else
		err_set(err, -EIO, "%s: monitor: %.200s", d->name,
			json_string_value(json_object_get(json_object_get(reply, "error"), "desc")) ?: "no answer");
	json_decref(reply);
	return value;
}

int qemu_tell(const struct qemu_domain *d, const char *command, struct err *err)
{
	json_t *value = qemu_monitor(d, command, err);

	json_decref(value);
	return value ? 0 : -EIO;
}
