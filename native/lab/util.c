#define _GNU_SOURCE
#include "lab.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void die(const char *what, ...) {
  int reason = errno;
  va_list arguments;
  va_start(arguments, what);
  fprintf(stderr, "natwork-lab: ");
  vfprintf(stderr, what, arguments);
  if (reason) fprintf(stderr, ": %s", strerror(reason));
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

int enter_netns(const char *name) {
  if (strcmp(name, "-") == 0) return 0;
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = setns(fd, CLONE_NEWNET);
  close(fd);
  return result;
}

int64_t now_us(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (int64_t)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

void lines_init(struct lines *lines, int fd) {
  *lines = (struct lines){.fd = fd, .size = 65536};
  lines->text = malloc(lines->size + 1);
  if (!lines->text) die("out of memory");
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void lines_fill(struct lines *lines) {
  if (lines->eaten) {
    memmove(lines->text, lines->text + lines->eaten, lines->used - lines->eaten);
    lines->used -= lines->eaten;
    lines->eaten = 0;
  }
  if (lines->used == lines->size) {
    if (lines->size >= LINE_MAX_BYTES) {
      errno = 0;
      die("a command line is longer than %d bytes", LINE_MAX_BYTES);
    }
    lines->size *= 2;
    lines->text = realloc(lines->text, lines->size + 1);
    if (!lines->text) die("out of memory");
  }
  ssize_t got = read(lines->fd, lines->text + lines->used, lines->size - lines->used);
  if (got > 0) lines->used += (size_t)got;
  else if (got == 0 || (errno != EAGAIN && errno != EINTR)) lines->ended = 1;
}

char *lines_next(struct lines *lines) {
  char *start = lines->text + lines->eaten;
  char *newline = memchr(start, '\n', lines->used - lines->eaten);
  if (!newline) return NULL;
  *newline = 0;
  lines->eaten = (size_t)(newline - lines->text) + 1;
  return start;
}

int split(char *line, char **words, int max) {
  int count = 0;
  char *rest = NULL;
  for (char *word = strtok_r(line, " ", &rest); word && count < max; word = strtok_r(NULL, " ", &rest)) {
    words[count++] = word;
  }
  return count;
}

int offloads_off(const char *interface, uint8_t *mac) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
  int result = fd < 0 ? -1 : ioctl(fd, SIOCGIFHWADDR, &request);
  if (result == 0) memcpy(mac, request.ifr_hwaddr.sa_data, 6);
  const uint32_t off[] = {ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM};
  for (size_t i = 0; result == 0 && i < sizeof off / sizeof *off; i++) {
    struct ethtool_value value = {.cmd = off[i], .data = 0};
    request.ifr_data = (char *)&value;
    result = ioctl(fd, SIOCETHTOOL, &request);
  }
  int reason = errno;
  if (fd >= 0) close(fd);
  errno = reason;
  return result;
}
