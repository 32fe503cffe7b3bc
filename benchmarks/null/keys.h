/* Names in byte order, each with a value: a skip list, and the walk that every listing is. */

#ifndef NULL_KEYS_H
#define NULL_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#define KEYS_LEVELS 20 /* of which a million names use most */

struct node {
    void *value;
    char *key;
    struct node *next[]; /* as many as the node is high */
};

/* {0} is an empty one. Not for several threads at once. */
struct keys {
    struct node *first[KEYS_LEVELS];
    unsigned long long dice;
};

struct node *keys_find(const struct keys *keys, const char *key);

/* The first whose name is not below `key`, or NULL. */
struct node *keys_seek(const struct keys *keys, const char *key);

/* The node of a name; a new one has no value. */
struct node *keys_put(struct keys *keys, const char *key);

/* The value that was there, or NULL. */
void *keys_remove(struct keys *keys, const char *key);

struct walk {
    const char *prefix;    /* only names that begin so */
    const char *delimiter; /* "" for none: else names with it behind the prefix are one folder */
    const char *from;      /* where to begin; "" for the start */
    bool from_excluded;    /* leave out `from` itself, also where it is a folder */
    size_t limit;          /* names and folders at most */
    void *context;
    void (*on_name)(void *context, const struct node *node);
    void (*on_folder)(void *context, const char *name, size_t size);
};

/* Returns the node to go on from, or NULL at the end. */
struct node *keys_walk(const struct keys *keys, const struct walk *walk);

#endif
