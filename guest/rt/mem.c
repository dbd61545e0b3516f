/* SPDX-License-Identifier: MIT */
/* What a freestanding compiler may call. */
#include <stddef.h>

void *memset(void *to, int byte, size_t bytes);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	__asm__ __volatile__("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	void *at = to;

	__asm__ __volatile__("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
	char *at = (char *)to + bytes;
	const char *source = (const char *)from + bytes;

	if ((size_t)((char *)to - (const char *)from) >= bytes)
		return memcpy(to, from, bytes);
	while (bytes--)
		*--at = *--source;
	return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
	const unsigned char *x = a, *y = b;

	for (; bytes; bytes--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
