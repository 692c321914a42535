// The name server of a network with NAT64 (RFC 6147): the lab's own names, with IPv6 addresses made from IPv4 ones
// where a name has no other. `ipv4only.arpa` lets clients find the prefix (RFC 7050).
#include "lab.h"
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { A = 1, AAAA = 28, TTL = 60, NO_NAME = 3, NOT_IMPLEMENTED = 4 };

struct record {
  const char *name;
  int type;
  uint8_t address[16];
};

static struct record records[1024];
static int record_count;

static void put16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static void add_record(char *text) { // NAME=ADDRESS
  char *equals = strchr(text, '=');
  if (!equals || record_count == sizeof records / sizeof *records) die("record %s", text);
  *equals = 0;
  struct record *record = &records[record_count++];
  record->name = text;
  record->type = strchr(equals + 1, ':') ? AAAA : A;
  if (inet_pton(record->type == A ? AF_INET : AF_INET6, equals + 1, record->address) != 1) die("address %s", equals + 1);
}

// The question's name with dots. Returns the offset after it, or 0.
static size_t read_name(const uint8_t *query, size_t length, char *name) {
  size_t at = 12, used = 0;
  while (at < length && query[at]) {
    size_t label = query[at++];
    if (label > 63 || at + label >= length || used + label + 1 > 254) return 0;
    if (used) name[used++] = '.';
    memcpy(name + used, query + at, label);
    used += label;
    at += label;
  }
  name[used] = 0;
  return at + 5 <= length ? at + 1 : 0;
}

static size_t add_answer(uint8_t *reply, size_t at, const struct record *record, int type) {
  static const uint8_t prefix[12] = {0, 0x64, 0xff, 0x9b};
  size_t size = type == A ? 4 : 16;
  put16(reply + at, 0xc00c); // the question's name
  put16(reply + at + 2, (uint32_t)type);
  put16(reply + at + 4, 1);
  put16(reply + at + 6, 0);
  put16(reply + at + 8, TTL);
  put16(reply + at + 10, (uint32_t)size);
  uint8_t *data = reply + at + 12;
  if (record->type == type) memcpy(data, record->address, size);
  else {
    memcpy(data, prefix, 12);
    memcpy(data + 12, record->address, 4);
  }
  return at + 12 + size;
}

static size_t answer(uint8_t *packet, size_t length) {
  char name[256];
  if (length < 17 || packet[2] & 0x80 || packet[4] || packet[5] != 1) return 0;
  size_t after = read_name(packet, length, name);
  if (!after) return 0;
  int type = packet[after] << 8 | packet[after + 1];
  size_t at = after + 4;
  int known = 0, own = 0, answers = 0, code = 0;
  for (int i = 0; i < record_count; i++) {
    if (strcasecmp(records[i].name, name)) continue;
    known = 1;
    own |= records[i].type == type;
  }
  for (int i = 0; i < record_count && answers < 8; i++) {
    if (strcasecmp(records[i].name, name)) continue;
    // RFC 6147 §5.1.4: made up only where there is no real one.
    int made = type == AAAA && !own && records[i].type == A;
    if (records[i].type != type && !made) continue;
    at = add_answer(packet, at, &records[i], type);
    answers++;
  }
  if (!known) code = NO_NAME;
  if (packet[2] & 0x78) code = NOT_IMPLEMENTED;
  packet[2] = (uint8_t)(0x84 | (packet[2] & 0x79)); // an authoritative answer
  packet[3] = (uint8_t)code;
  put16(packet + 6, (uint32_t)answers);
  memset(packet + 8, 0, 4); // no authority, and no EDNS: that is an answer to it as well
  return at;
}

// dns64 ADDRESS NAME=ADDRESS…: says "ready" once it answers.
int dns64_main(int argc, char **argv) {
  errno = 0;
  if (argc < 2) die("usage: dns64 ADDRESS NAME=ADDRESS…");
  for (int i = 2; i < argc; i++) add_record(argv[i]);
  struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
  if (inet_pton(AF_INET6, argv[1], &own.sin6_addr) != 1) die("address %s", argv[1]);
  int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof own) < 0) die("[%s]:53", argv[1]);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    uint8_t packet[1024];
    struct sockaddr_in6 from;
    socklen_t size = sizeof from;
    ssize_t length = recvfrom(fd, packet, 512, 0, (struct sockaddr *)&from, &size);
    if (length < 0) continue;
    size_t made = answer(packet, (size_t)length);
    if (made) sendto(fd, packet, made, 0, (struct sockaddr *)&from, size);
  }
}
