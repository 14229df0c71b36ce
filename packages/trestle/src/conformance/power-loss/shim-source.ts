/**
 * The C source of the disk that loses power: a library for LD_PRELOAD. It is kept as text, so that it travels with the package and is
 * built where it is used.
 *
 * It watches the files below DISK_ROOT:
 *   DISK_SHADOW   a directory that holds each file as of its last fsync: what a power loss would leave. An unlink or rename counts at once.
 *   DISK_SLOW_US  microseconds added to each fsync.
 *   DISK_BUDGET   a file of eight bytes, little-endian: how many bytes the files may still grow; beyond it a write fails with ENOSPC. Negative:
 *                 without limit. It is shared memory: whoever starts the process may change it while it runs.
 */
export const shimSource = String.raw`
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)
#define FILES 256
#define RANGES 2048

struct range { off_t from, to; };
struct file { dev_t dev; ino_t ino; int count; int whole; struct range ranges[RANGES]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *files[FILES];
static const char *root, *shadow;
static long slow_us;
static volatile int64_t *budget;

__attribute__((constructor)) static void start(void) {
  root = getenv("DISK_ROOT");
  shadow = getenv("DISK_SHADOW");
  const char *slow = getenv("DISK_SLOW_US"), *limit = getenv("DISK_BUDGET");
  slow_us = slow ? atol(slow) : 0;
  if (limit) {
    int fd = open(limit, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
      void *at = mmap(0, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (at != MAP_FAILED) budget = at;
      close(fd);
    }
  }
}

/* The path of a watched file; 0 for any other. */
static int watched_path(const char *path) { return root && !strncmp(path, root, strlen(root)); }
static int watched(int fd, char *path, size_t size) {
  if (!root) return 0;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t got = readlink(link, path, size - 1);
  if (got < 0) return 0;
  path[got] = 0;
  return watched_path(path) && !strstr(path, "-shm");
}

static void shadow_of(const char *path, char *out, size_t size) {
  snprintf(out, size, "%s/", shadow);
  size_t at = strlen(out);
  for (const char *c = path + strlen(root); *c && at + 1 < size; c++) out[at++] = *c == '/' ? '%' : *c;
  out[at] = 0;
}

static struct file *of(int fd) {
  struct stat st;
  if (fstat(fd, &st)) return 0;
  for (int i = 0; i < FILES; i++) {
    if (!files[i]) {
      files[i] = calloc(1, sizeof(struct file));
      files[i]->dev = st.st_dev;
      files[i]->ino = st.st_ino;
      files[i]->whole = 1; /* what it held before is not known to be in the shadow */
      return files[i];
    }
    if (files[i]->dev == st.st_dev && files[i]->ino == st.st_ino) return files[i];
  }
  return 0;
}

static void dirty(int fd, off_t from, ssize_t count) {
  if (!shadow || count <= 0) return;
  pthread_mutex_lock(&lock);
  struct file *f = of(fd);
  if (f) {
    if (f->count && f->ranges[f->count - 1].to == from) f->ranges[f->count - 1].to += count;
    else if (f->count < RANGES) f->ranges[f->count++] = (struct range){from, from + count};
    else f->whole = 1;
  }
  pthread_mutex_unlock(&lock);
}

static void copy(int from, int to, off_t at, off_t end) {
  static char buffer[1 << 16];
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
  while (at < end) {
    ssize_t got = pread(from, buffer, end - at < (off_t)sizeof buffer ? (size_t)(end - at) : sizeof buffer, at);
    if (got <= 0) return;
    real(to, buffer, got, at);
    at += got;
  }
}

/* The file as it is now is what a power loss would leave. */
static void keep(int fd, const char *path) {
  if (!shadow) return;
  char name[4096], open_name[64];
  shadow_of(path, name, sizeof name);
  snprintf(open_name, sizeof open_name, "/proc/self/fd/%d", fd);
  pthread_mutex_lock(&lock);
  struct file *f = of(fd);
  struct stat st;
  int from = open(open_name, O_RDONLY | O_CLOEXEC), to = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (from >= 0 && to >= 0 && !fstat(fd, &st)) {
    REAL(int, "ftruncate64", int, off_t);
    struct stat old;
    int whole = !f || f->whole || fstat(to, &old) || old.st_size == 0;
    real(to, st.st_size);
    if (whole) copy(from, to, 0, st.st_size);
    else for (int i = 0; i < f->count; i++) copy(from, to, f->ranges[i].from, f->ranges[i].to);
    if (f) f->count = f->whole = 0;
  }
  if (from >= 0) close(from);
  if (to >= 0) close(to);
  pthread_mutex_unlock(&lock);
}

/* May the file grow to hold count bytes at this offset? Takes them from the budget. */
static int room(int fd, off_t at, size_t count) {
  if (!budget || *budget < 0) return 1;
  struct stat st;
  if (fstat(fd, &st) || at + (off_t)count <= st.st_size) return 1;
  int64_t more = at + (off_t)count - st.st_size;
  pthread_mutex_lock(&lock);
  int fits = *budget >= more;
  if (fits) *budget -= more;
  pthread_mutex_unlock(&lock);
  if (!fits) errno = ENOSPC;
  return fits;
}

static int synced(int fd, int result) {
  char path[4096];
  if (!watched(fd, path, sizeof path)) return result;
  if (slow_us) usleep(slow_us);
  struct stat st;
  if (result == 0 && !fstat(fd, &st) && S_ISREG(st.st_mode)) keep(fd, path);
  return result;
}
int fsync(int fd) { REAL(int, "fsync", int); return synced(fd, real(fd)); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); return synced(fd, real(fd)); }

static ssize_t written(int fd, off_t at, ssize_t count) {
  char path[4096];
  if (count > 0 && shadow && watched(fd, path, sizeof path)) dirty(fd, at, count);
  return count;
}
static int refused(int fd, off_t at, size_t count) {
  char path[4096];
  return budget && watched(fd, path, sizeof path) && !room(fd, at, count);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { REAL(ssize_t, "pwrite", int, const void *, size_t, off_t); return refused(fd, at, n) ? -1 : written(fd, at, real(fd, b, n, at)); }
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) { REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t); return refused(fd, at, n) ? -1 : written(fd, at, real(fd, b, n, at)); }
ssize_t write(int fd, const void *b, size_t n) {
  REAL(ssize_t, "write", int, const void *, size_t);
  off_t at = root ? lseek(fd, 0, SEEK_CUR) : 0;
  if (at < 0) return real(fd, b, n);
  return refused(fd, at, n) ? -1 : written(fd, at, real(fd, b, n));
}
static int cut(int fd, int result) {
  char path[4096];
  if (result == 0 && shadow && watched(fd, path, sizeof path)) {
    pthread_mutex_lock(&lock);
    struct file *f = of(fd);
    if (f) f->whole = 1;
    pthread_mutex_unlock(&lock);
  }
  return result;
}
int ftruncate(int fd, off_t size) { REAL(int, "ftruncate", int, off_t); return cut(fd, real(fd, size)); }
int ftruncate64(int fd, off_t size) { REAL(int, "ftruncate64", int, off_t); return cut(fd, real(fd, size)); }
static void drop(const char *path) {
  REAL(int, "unlink", const char *);
  char name[4096];
  if (!shadow || !watched_path(path)) return;
  shadow_of(path, name, sizeof name);
  real(name);
}
int unlink(const char *path) { REAL(int, "unlink", const char *); int result = real(path); if (!result) drop(path); return result; }
int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  int result = real(from, to);
  if (!result && shadow && watched_path(from) && watched_path(to)) {
    char a[4096], b[4096];
    shadow_of(from, a, sizeof a);
    shadow_of(to, b, sizeof b);
    real(a, b);
  }
  return result;
}
`;
