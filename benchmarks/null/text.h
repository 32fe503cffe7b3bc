/* Text that grows, and the three ways in which HTTP and XML write a name. */

#ifndef NULL_TEXT_H
#define NULL_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Always ended by a NUL, once anything was added. {0} is an empty one. */
struct text {
    char *at;
    size_t size, room;
};

void text_clear(struct text *text);
void text_free(struct text *text);
void text_bytes(struct text *text, const void *bytes, size_t size);
void text_format(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void text_format_list(struct text *text, const char *format, va_list values);

/* A name as the content of an XML element. */
void text_xml(struct text *text, const char *name, size_t size);

/* A name percent-encoded; slashes stay if `keep_slashes`. */
void text_url(struct text *text, const char *name, size_t size, bool keep_slashes);

/* Percent-decode in place, and make spaces of pluses if asked. False where it holds a NUL. */
bool url_decode(char *text, bool plus_is_space);

/* malloc and strdup that end the program where memory runs out. */
void *get_memory(void *old, size_t size);
char *copy_string(const char *text);

#endif
