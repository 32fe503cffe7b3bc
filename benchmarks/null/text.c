#include "text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *get_memory(void *old, size_t size)
{
    void *memory = realloc(old, size);
    if (memory == NULL) {
        fprintf(stderr, "no memory left for %zu bytes\n", size);
        exit(1);
    }
    return memory;
}

char *copy_string(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(get_memory(NULL, size), text, size);
}

static void make_room(struct text *text, size_t more)
{
    if (text->size + more + 1 > text->room) {
        text->room = 2 * (text->size + more + 1);
        text->at = get_memory(text->at, text->room);
    }
}

void text_clear(struct text *text)
{
    text->size = 0;
}

void text_free(struct text *text)
{
    free(text->at);
    *text = (struct text){0};
}

void text_bytes(struct text *text, const void *bytes, size_t size)
{
    make_room(text, size);
    if (size > 0)
        memcpy(text->at + text->size, bytes, size);
    text->size += size;
    text->at[text->size] = 0;
}

void text_format(struct text *text, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    text_format_list(text, format, values);
    va_end(values);
}

void text_format_list(struct text *text, const char *format, va_list values)
{
    va_list again;
    va_copy(again, values);
    make_room(text, 120);
    size_t room = text->room - text->size;
    size_t size = vsnprintf(text->at + text->size, room, format, values);
    if (size >= room) {
        make_room(text, size);
        vsnprintf(text->at + text->size, size + 1, format, again);
    }
    text->size += size;
    va_end(again);
}

void text_xml(struct text *text, const char *name, size_t size)
{
    for (const char *end = name + size; name < end; name++) {
        unsigned char letter = *name;
        if (letter == '&')
            text_bytes(text, "&amp;", 5);
        else if (letter == '<')
            text_bytes(text, "&lt;", 4);
        else if (letter == '>')
            text_bytes(text, "&gt;", 4);
        else if (letter == '"')
            text_bytes(text, "&quot;", 6);
        else if (letter < ' ')
            text_format(text, "&#x%x;", letter);
        else
            text_bytes(text, name, 1);
    }
}

void text_url(struct text *text, const char *name, size_t size, bool keep_slashes)
{
    for (const char *end = name + size; name < end; name++) {
        unsigned char letter = *name;
        bool plain = letter < 128 && (isalnum(letter) || strchr("-._~", letter) != NULL);
        if (plain || (letter == '/' && keep_slashes))
            text_bytes(text, name, 1);
        else
            text_format(text, "%%%02X", letter);
    }
}

static int hex_digit(char letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    letter |= 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

bool url_decode(char *text, bool plus_is_space)
{
    char *to = text;
    for (const char *from = text; *from != 0; from++) {
        int high, low;
        if (*from == '%' && (high = hex_digit(from[1])) >= 0 && (low = hex_digit(from[2])) >= 0) {
            *to = 16 * high + low;
            if (*to++ == 0)
                return false;
            from += 2;
        } else {
            *to++ = *from == '+' && plus_is_space ? ' ' : *from;
        }
    }
    *to = 0;
    return true;
}
