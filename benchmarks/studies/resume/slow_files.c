/* A file system on a network, as far as waiting goes: each metadata operation below a path is
 * delayed. To be preloaded:
 *
 *     SLOW_FILES_BELOW=/jobs SLOW_FILES_MS=2 LD_PRELOAD=.../slow_files.so noria run /jobs/one
 *
 * Delayed are open, stat, rename, unlink, rmdir, mkdir, link, symlink, fsync and fdatasync, opendir,
 * and each READS_AT_ONCE-th readdir: so many entries come in one answer of NFS. Reads, writes and
 * close are not. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { READS_AT_ONCE = 128 };

static const char *below;
static size_t below_length;
static long delay_nanoseconds;

__attribute__((constructor)) static void begin(void)
{
    const char *milliseconds = getenv("SLOW_FILES_MS");
    below = getenv("SLOW_FILES_BELOW");
    below_length = below ? strlen(below) : 0;
    delay_nanoseconds = milliseconds ? (long)(atof(milliseconds) * 1e6) : 0;
}

static int is_below(const char *path)
{
    return strncmp(path, below, below_length) == 0 &&
           (path[below_length] == '/' || path[below_length] == '\0');
}

static void delay(void)
{
    struct timespec left = {delay_nanoseconds / 1000000000L, delay_nanoseconds % 1000000000L};
    int saved = errno;
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
    errno = saved;
}

/* The folder that `file` is open on, or the current one. */
static int folder_of(int file, char *path)
{
    char link[64];
    int saved = errno;
    ssize_t length;
    if (file == AT_FDCWD)
        strcpy(link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, PATH_MAX - 1);
    errno = saved;
    if (length < 0)
        return 0;
    path[length] = '\0';
    return 1;
}

static void delay_file(int file)
{
    char path[PATH_MAX];
    if (below_length && folder_of(file, path) && is_below(path))
        delay();
}

static void delay_path(int folder, const char *path)
{
    if (!below_length || !path)
        return;
    if (path[0] != '/')
        delay_file(folder);
    else if (is_below(path))
        delay();
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        delay_path(AT_FDCWD, path); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        delay_path(folder, path); \
        return real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* What fortified programs call. */
extern int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
    return open64(path, flags);
}

#define ON_FILE(name, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        delay_file(file); \
        return real arguments; \
    }
ON_FILE(fsync, (int file), (file))
ON_FILE(fdatasync, (int file), (file))
ON_FILE(fstat, (int file, struct stat *found), (file, found))
ON_FILE(fstat64, (int file, struct stat64 *found), (file, found))

#define ON_PATH(name, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        delay_path(AT_FDCWD, path); \
        return real arguments; \
    }
ON_PATH(stat, (const char *path, struct stat *found), (path, found))
ON_PATH(lstat, (const char *path, struct stat *found), (path, found))
ON_PATH(stat64, (const char *path, struct stat64 *found), (path, found))
ON_PATH(lstat64, (const char *path, struct stat64 *found), (path, found))
ON_PATH(rename, (const char *path, const char *to), (path, to))
ON_PATH(unlink, (const char *path), (path))
ON_PATH(rmdir, (const char *path), (path))
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(link, (const char *to, const char *path), (to, path))
ON_PATH(symlink, (const char *to, const char *path), (to, path))

#define IN_FOLDER(name, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        delay_path(folder, path); \
        return real arguments; \
    }
IN_FOLDER(fstatat, (int folder, const char *path, struct stat *found, int flags),
          (folder, path, found, flags))
IN_FOLDER(fstatat64, (int folder, const char *path, struct stat64 *found, int flags),
          (folder, path, found, flags))
IN_FOLDER(statx,
          (int folder, const char *path, int flags, unsigned int mask, struct statx *found),
          (folder, path, flags, mask, found))
IN_FOLDER(unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
IN_FOLDER(mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode))
IN_FOLDER(renameat, (int folder, const char *path, int to_folder, const char *to),
          (folder, path, to_folder, to))
IN_FOLDER(linkat, (int folder, const char *path, int to_folder, const char *to, int flags),
          (folder, path, to_folder, to, flags))

DIR *opendir(const char *path)
{
    REAL(opendir);
    delay_path(AT_FDCWD, path);
    return real(path);
}

static void delay_reading(DIR *folder)
{
    static __thread DIR *last;
    static __thread unsigned reads;
    if (folder != last)
        reads = 0;
    last = folder;
    if (reads++ % READS_AT_ONCE == 0)
        delay_file(dirfd(folder));
}

struct dirent *readdir(DIR *folder)
{
    REAL(readdir);
    delay_reading(folder);
    return real(folder);
}

struct dirent64 *readdir64(DIR *folder)
{
    REAL(readdir64);
    delay_reading(folder);
    return real(folder);
}
