#include "keys.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

/* Fills `links` with the links that lead to the first node not below `key`, one a level. */
static void find_links(struct keys *keys, const char *key, struct node **links[KEYS_LEVELS])
{
    struct node **level_links = keys->first;
    for (int level = KEYS_LEVELS - 1; level >= 0; level--) {
        while (level_links[level] != NULL && strcmp(level_links[level]->key, key) < 0)
            level_links = level_links[level]->next;
        links[level] = &level_links[level];
    }
}

struct node *keys_seek(const struct keys *keys, const char *key)
{
    struct node **links[KEYS_LEVELS];
    find_links((struct keys *)keys, key, links);
    return *links[0];
}

struct node *keys_find(const struct keys *keys, const char *key)
{
    struct node *node = keys_seek(keys, key);
    return node != NULL && strcmp(node->key, key) == 0 ? node : NULL;
}

/* Each level with half the chance of the one below (xorshift, Marsaglia 2003). */
static int draw_height(struct keys *keys)
{
    unsigned long long dice = keys->dice ? keys->dice : 88172645463325252ull;
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    keys->dice = dice;
    int height = 1 + __builtin_ctzll(dice | 1ull << (KEYS_LEVELS - 1));
    return height;
}

struct node *keys_put(struct keys *keys, const char *key)
{
    struct node **links[KEYS_LEVELS];
    find_links(keys, key, links);
    struct node *found = *links[0];
    if (found != NULL && strcmp(found->key, key) == 0)
        return found;
    int height = draw_height(keys);
    struct node *node = get_memory(NULL, sizeof *node + height * sizeof node->next[0]);
    node->key = copy_string(key);
    node->value = NULL;
    for (int level = 0; level < height; level++) {
        node->next[level] = *links[level];
        *links[level] = node;
    }
    return node;
}

void *keys_remove(struct keys *keys, const char *key)
{
    struct node **links[KEYS_LEVELS];
    find_links(keys, key, links);
    struct node *node = *links[0];
    if (node == NULL || strcmp(node->key, key) != 0)
        return NULL;
    for (int level = 0; level < KEYS_LEVELS && *links[level] == node; level++)
        *links[level] = node->next[level];
    void *value = node->value;
    free(node->key);
    free(node);
    return value;
}

/* The first node behind all names that begin with `folder`. */
static struct node *seek_behind(const struct keys *keys, const char *folder, size_t size)
{
    char *behind = get_memory(NULL, size + 1);
    memcpy(behind, folder, size);
    behind[size - 1]++; /* a delimiter is no 0xff */
    behind[size] = 0;
    struct node *node = keys_seek(keys, behind);
    free(behind);
    return node;
}

struct node *keys_walk(const struct keys *keys, const struct walk *walk)
{
    size_t prefix_size = strlen(walk->prefix), delimiter_size = strlen(walk->delimiter);
    bool from_within = strcmp(walk->from, walk->prefix) > 0;
    struct node *node = keys_seek(keys, from_within ? walk->from : walk->prefix);
    size_t count = 0;
    while (node != NULL && strncmp(node->key, walk->prefix, prefix_size) == 0) {
        const char *rest = node->key + prefix_size;
        const char *cut = delimiter_size ? strstr(rest, walk->delimiter) : NULL;
        size_t size = cut ? (size_t)(cut - node->key) + delimiter_size : strlen(node->key);
        bool passed = walk->from_excluded && strlen(walk->from) == size &&
                      memcmp(walk->from, node->key, size) == 0;
        if (!passed && count++ == walk->limit)
            return node;
        if (!passed && cut)
            walk->on_folder(walk->context, node->key, size);
        else if (!passed)
            walk->on_name(walk->context, node);
        node = cut ? seek_behind(keys, node->key, size) : node->next[0];
    }
    return NULL;
}
