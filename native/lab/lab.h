// natwork-lab: the lab's system calls that Node and the ip and nft commands lack. One program, one file per job.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int keeper_main(int argc, char **argv);
int exec_main(int argc, char **argv);
int in_main(int argc, char **argv);
int sysctl_main(int argc, char **argv);
int path_main(int argc, char **argv);
int agent_main(int argc, char **argv);
int capture_main(int argc, char **argv);
int nat64_main(int argc, char **argv);
int dns64_main(int argc, char **argv);

// Prints "natwork-lab: WHAT: REASON" (strerror of errno when it is not 0) and ends the process with status 1.
_Noreturn void die(const char *what, ...) __attribute__((format(printf, 1, 2)));

// Enters the network namespace that `ip netns` knows by this name; "-" stays where it is. -1 with errno.
int enter_netns(const char *name);

// Makes an interface of this namespace send whole packets with whole checksums, as on a wire: for those of us who read
// the other end of its veth pair. Gives its MAC address. -1 with errno.
int offloads_off(const char *interface, uint8_t *mac);

// Microseconds on a clock that never goes back.
int64_t now_us(void);

// Lines from a file descriptor that must not block the loop. `text` grows up to LINE_MAX_BYTES.
#define LINE_MAX_BYTES (1 << 20)
struct lines {
  int fd;
  char *text;
  size_t used, size, eaten;
  int ended;
};
void lines_init(struct lines *lines, int fd);
// Reads what there is. Call when the descriptor is readable; afterwards take lines until NULL.
void lines_fill(struct lines *lines);
// The next whole line without its newline, valid until the next fill; NULL when there is none (see `ended`).
char *lines_next(struct lines *lines);

// Splits in place at spaces. Returns how many words were found, at most `max`.
int split(char *line, char **words, int max);
