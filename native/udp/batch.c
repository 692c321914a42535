// A UDP port and its system calls. libc's sendmmsg is a loop of sendmsg on musl, so the calls in bulk are made directly.
#define _GNU_SOURCE
#include "udp.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define SEND_MESSAGES 64
#define SEND_ATTEMPTS 8 // of a datagram whose failure may be an older one's
#define MAX_SEGMENTS 64   // UDP_MAX_SEGMENTS of Linux before 6.9
#define MAX_MERGED 65507  // an IPv4 datagram's payload

static int recvmmsg_(int fd, struct mmsghdr *messages, unsigned count, int flags) {
  int got;
  do got = syscall(SYS_recvmmsg, fd, messages, count, MSG_DONTWAIT | flags, NULL);
  while (got < 0 && errno == EINTR);
  return got;
}

static int sendmmsg_(int fd, struct mmsghdr *messages, unsigned count) {
  return syscall(SYS_sendmmsg, fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static socklen_t address_length(const union address *address) {
  return address->any.sa_family == AF_INET6 ? sizeof address->six : sizeof address->four;
}

static int set(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0 ? 0 : errno;
}

// Containers may refuse each of these: then this is no place for batches. What one port has found holds for all.
static int probe(struct port *port) {
  static _Atomic int known; // 0: nothing; 1: no UDP_SEGMENT; 2: UDP_SEGMENT
  if (known == 0) {
    struct mmsghdr none;
    if (recvmmsg_(port->fd, &none, 0, 0) < 0 || sendmmsg_(port->fd, &none, 0) < 0) return errno;
    int segment = 0;
    socklen_t length = sizeof segment;
    known = getsockopt(port->fd, IPPROTO_UDP, UDP_SEGMENT, &segment, &length) == 0 ? 2 : 1;
  }
  port->gso = known == 2;
  port->gro = set(port->fd, IPPROTO_UDP, UDP_GRO, 1) == 0;
  return 0;
}

static int bind_to(struct port *port, const union address *at, int receive_buffer, bool reuse_port) {
  int error = 0;
  if (port->family == AF_INET6) error = set(port->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (error == 0 && reuse_port) error = set(port->fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (error != 0) return error;
  // What can wait comes after the bind, which is the step that fails: a relay tries ports until one is free.
  if (bind(port->fd, &at->any, address_length(at)) < 0) return errno;
  error = probe(port);
  if (error != 0) return error;
  // Root may have more than the ceiling that an administrator set for everybody (net.core.rmem_max).
  if (set(port->fd, SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer) != 0)
    set(port->fd, SOL_SOCKET, SO_RCVBUF, receive_buffer);
  port->number = ntohs(at->four.sin_port); // at the same place in both families
  if (port->number != 0) return 0;
  union address bound;
  socklen_t length = sizeof bound;
  if (getsockname(port->fd, &bound.any, &length) < 0) return errno;
  port->number = ntohs(bound.four.sin_port);
  return 0;
}

int port_open(struct port *port, const union address *at, int receive_buffer, bool reuse_port) {
  port->family = at->any.sa_family;
  port->fd = socket(port->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (port->fd < 0) return errno;
  int error = bind_to(port, at, receive_buffer, reuse_port);
  if (error != 0) close(port->fd);
  return error;
}

// Another process has bound it, and may hold it still.
int port_adopt(struct port *port, int fd) {
  union address bound;
  socklen_t length = sizeof bound;
  port->fd = fd;
  if (getsockname(fd, &bound.any, &length) < 0) return errno;
  port->family = bound.any.sa_family;
  port->number = ntohs(bound.four.sin_port);
  return probe(port);
}

int port_receive_buffer(const struct port *port) {
  int bytes = 0;
  socklen_t length = sizeof bytes;
  getsockopt(port->fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length);
  return bytes / 2; // Linux reports the double (socket(7))
}

int parse_address(const char *text, int number, union address *address) {
  memset(address, 0, sizeof *address);
  if (inet_pton(AF_INET, text, &address->four.sin_addr) == 1) {
    address->four.sin_family = AF_INET;
    address->four.sin_port = htons(number);
    return 0;
  }
  char plain[INET6_ADDRSTRLEN];
  size_t length = strcspn(text, "%");
  if (length >= sizeof plain) return EINVAL;
  memcpy(plain, text, length);
  plain[length] = 0;
  if (inet_pton(AF_INET6, plain, &address->six.sin6_addr) != 1) return EINVAL;
  address->six.sin6_family = AF_INET6;
  address->six.sin6_port = htons(number);
  if (text[length] == '%') address->six.sin6_scope_id = if_nametoindex(text + length + 1);
  return 0;
}

void print_address(const union address *address, char *text, int size) {
  text[0] = 0;
  if (address->any.sa_family == AF_INET) {
    inet_ntop(AF_INET, &address->four.sin_addr, text, size);
    return;
  }
  inet_ntop(AF_INET6, &address->six.sin6_addr, text, size);
  char zone[IF_NAMESIZE];
  size_t length = strlen(text);
  if (address->six.sin6_scope_id == 0 || if_indextoname(address->six.sin6_scope_id, zone) == NULL) return;
  if (length + 1 + strlen(zone) >= (size_t)size) return;
  text[length] = '%';
  strcpy(text + length + 1, zone);
}

static uint64_t mixed(uint64_t h, uint64_t word) {
  h = (h ^ word) * 0x9e3779b97f4a7c15u;
  return h ^ h >> 32;
}

static uint64_t hash(const union address *address) {
  if (address->any.sa_family == AF_INET)
    return mixed(address->four.sin_port, address->four.sin_addr.s_addr);
  uint64_t words[2];
  memcpy(words, &address->six.sin6_addr, sizeof words);
  return mixed(mixed(mixed(address->six.sin6_port, words[0]), words[1]), address->six.sin6_scope_id);
}

static bool same(const union address *a, const union address *b) {
  if (a->any.sa_family != b->any.sa_family || a->four.sin_port != b->four.sin_port) return false;
  if (a->any.sa_family == AF_INET) return a->four.sin_addr.s_addr == b->four.sin_addr.s_addr;
  return memcmp(&a->six.sin6_addr, &b->six.sin6_addr, sizeof a->six.sin6_addr) == 0 &&
         a->six.sin6_scope_id == b->six.sin6_scope_id;
}

// A small number for each remote, so that JavaScript need not build its text for each datagram. Bounded by REMOTES:
// a stranger's address can only push out another one, which is made anew on its next datagram.
static int32_t slot_of(struct received *in, const union address *from) {
  uint64_t h = hash(from);
  int32_t first = h % REMOTES & ~1, second = first | 1;
  if (same(&in->remotes[first], from)) return first;
  if (same(&in->remotes[second], from)) return second;
  int32_t victim = in->remotes[first].any.sa_family == AF_UNSPEC ? first : first | (int32_t)(h >> 63);
  in->remotes[victim] = *from;
  return victim | NEW_REMOTE;
}

static int32_t segment_size(struct msghdr *message) {
  struct cmsghdr *c = CMSG_FIRSTHDR(message); // no other was asked for
  if (c == NULL || c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO) return 0;
  int size;
  memcpy(&size, CMSG_DATA(c), sizeof size);
  return size;
}

int port_receive(struct port *port, struct received *in) {
  struct mmsghdr messages[RECEIVE_MESSAGES];
  struct iovec parts[RECEIVE_MESSAGES];
  union { struct cmsghdr align; uint8_t bytes[CMSG_SPACE(sizeof(int))]; } control[RECEIVE_MESSAGES];
  for (int i = 0; i < RECEIVE_MESSAGES; i++) {
    parts[i] = (struct iovec){in->bytes + (size_t)i * RECEIVE_STRIDE, RECEIVE_STRIDE};
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = &in->from[i],
        .msg_namelen = sizeof in->from[i],
        .msg_iov = &parts[i],
        .msg_iovlen = 1,
        .msg_control = port->gro ? &control[i] : NULL,
        .msg_controllen = port->gro ? sizeof control[i] : 0,
    };
  }
  int count = recvmmsg_(port->fd, messages, RECEIVE_MESSAGES, 0);
  if (count < 0) return -errno;
  for (int i = 0; i < count; i++) {
    const union address *from = &in->from[i];
    in->info[i].slot = slot_of(in, from);
    in->info[i].length = messages[i].msg_len;
    in->info[i].segment = segment_size(&messages[i].msg_hdr);
    in->info[i].port = ntohs(from->four.sin_port);
  }
  return count;
}

void port_watch_errors(struct port *port) {
  if (port->family == AF_INET) port->errors = set(port->fd, IPPROTO_IP, IP_RECVERR, 1) == 0;
  else port->errors = set(port->fd, IPPROTO_IPV6, IPV6_RECVERR, 1) == 0;
}

// struct sock_extended_err of <linux/errqueue.h>, which not every libc brings (ip(7)).
struct extended_error {
  uint32_t error;
  uint8_t origin, type, code, unused;
  uint32_t info, data;
};
enum { ORIGIN_ICMP = 2, ORIGIN_ICMP6 = 3 }; // 1: the kernel itself, which has told the sender

static bool is_icmp(struct msghdr *message, int family, struct extended_error *error) {
  struct cmsghdr *c = CMSG_FIRSTHDR(message); // no other was asked for
  if (c == NULL || c->cmsg_len < CMSG_LEN(sizeof *error)) return false;
  bool six = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
  if (!six && !(c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR)) return false;
  memcpy(error, CMSG_DATA(c), sizeof *error);
  return error->origin == (family == AF_INET6 ? ORIGIN_ICMP6 : ORIGIN_ICMP);
}

// The next hop's MTU, of "fragmentation needed" (RFC 1191 §4) and "packet too big" (RFC 4443 §3.2).
static int32_t mtu_of(const struct extended_error *error) {
  bool too_big = error->origin == ORIGIN_ICMP6 ? error->type == 2 : error->type == 3 && error->code == 4;
  return too_big && error->info <= 0xffff ? (int32_t)error->info : 0;
}

int port_receive_errors(struct port *port, struct received *in) {
  struct mmsghdr messages[RECEIVE_MESSAGES];
  union {
    struct cmsghdr align; // behind the error stands who sent it
    uint8_t bytes[CMSG_SPACE(sizeof(struct extended_error) + sizeof(struct sockaddr_in6))];
  } control[RECEIVE_MESSAGES];
  for (int i = 0; i < RECEIVE_MESSAGES; i++) {
    messages[i].msg_hdr = (struct msghdr){
        .msg_name = &in->from[i], // where the datagram went
        .msg_namelen = sizeof in->from[i],
        .msg_control = &control[i],
        .msg_controllen = sizeof control[i],
    };
  }
  int count = recvmmsg_(port->fd, messages, RECEIVE_MESSAGES, MSG_ERRQUEUE);
  int kept = 0;
  for (int i = 0; i < count; i++) {
    struct extended_error error;
    const struct msghdr *message = &messages[i].msg_hdr;
    if (message->msg_namelen < sizeof(struct sockaddr_in) || in->from[i].any.sa_family != port->family) continue;
    if (!is_icmp(&messages[i].msg_hdr, port->family, &error)) continue;
    in->from[kept] = in->from[i];
    in->info[kept].type = error.type;
    in->info[kept].code = error.code;
    in->info[kept].mtu = mtu_of(&error);
    in->info[kept].to = ntohs(in->from[kept].four.sin_port);
    kept++;
  }
  return kept;
}

struct sending {
  struct mmsghdr messages[SEND_MESSAGES];
  struct iovec parts[SEND_DATAGRAMS];
  int used;                     // of the parts
  int first[SEND_MESSAGES + 1]; // index of the first datagram of a message
  union {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint16_t))];
  } control[SEND_MESSAGES];
};

static void append_control(struct msghdr *message, int level, int type, const void *value, size_t size) {
  struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)message->msg_control + message->msg_controllen);
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(c), value, size);
  message->msg_controllen += CMSG_SPACE(size);
}

// Does the datagram go in one row with the `first`: same destination and TTL, no longer, and room for it?
static bool fits(const struct datagram *first, const struct datagram *more, int total) {
  return more->slot == first->slot && more->ttl == first->ttl && more->length > 0 && more->length <= first->length &&
         total + more->length <= MAX_MERGED;
}

// Message m: the datagram `at` and, when they may be merged, those behind it that go with it. Returns what follows.
static int fill(const struct port *port, struct outgoing *out, struct sending *s, int m, int at, bool merge) {
  const struct datagram *first = &out->datagrams[at], *last = first;
  struct iovec *parts = &s->parts[s->used];
  int total = first->length, datagrams = 1, count = 1;
  parts[0] = (struct iovec){out->bytes + first->offset, first->length};
  while (merge && last->next != NONE && datagrams < MAX_SEGMENTS && last->length == first->length) {
    const struct datagram *more = &out->datagrams[last->next];
    if (!fits(first, more, total)) break;
    // What lies back to back is one part.
    if (more->offset == last->offset + last->length) parts[count - 1].iov_len += more->length;
    else parts[count++] = (struct iovec){out->bytes + more->offset, more->length};
    total += more->length;
    datagrams++;
    last = more;
  }
  s->used += count;
  union address *to = &out->remotes[first->slot];
  s->messages[m].msg_hdr = (struct msghdr){
      .msg_name = to,
      .msg_namelen = address_length(to),
      .msg_iov = parts,
      .msg_iovlen = count,
      .msg_control = &s->control[m],
  };
  memset(&s->control[m], 0, sizeof s->control[m]);
  struct msghdr *message = &s->messages[m].msg_hdr;
  int ttl = first->ttl;
  if (ttl != 0 && port->family == AF_INET) append_control(message, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
  if (ttl != 0 && port->family == AF_INET6) append_control(message, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof ttl);
  uint16_t segment = first->length;
  if (datagrams > 1) append_control(message, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
  return last->next;
}

// An ICMP error about an earlier datagram fails one call and is then forgotten (ip(7), IP_RECVERR): with one of these.
static bool may_be_older(int error) {
  static const int errors[] = {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EMSGSIZE,   ENOPROTOOPT,
                               EOPNOTSUPP,   EHOSTDOWN,    ENONET,      EACCES,     EPROTO};
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) if (error == errors[i]) return true;
  return false;
}

int port_send(struct port *port, struct outgoing *out, int first) {
  struct sending s;
  int at = first;
  int one_by_one = first; // below this index nothing is merged: the kernel refused it
  int attempts = 0;
  *out->failures = 0;
  while (at != NONE) {
    int m = 0, next = at;
    s.used = 0;
    for (; m < SEND_MESSAGES && next != NONE; m++) {
      s.first[m] = next;
      next = fill(port, out, &s, m, next, port->gso && next >= one_by_one);
    }
    s.first[m] = next;
    int sent = sendmmsg_(port->fd, s.messages, m);
    if (sent > 0) {
      at = s.first[sent];
      attempts = 0;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno == EINTR) {
      continue;
    } else if (port->errors && may_be_older(errno) && ++attempts < SEND_ATTEMPTS) {
      continue;
    } else if (out->datagrams[at].next != s.first[1]) {
      // A row may be refused for its length (the path's MTU) or by a device that cannot split it: as single datagrams
      // each gets its own answer.
      if (errno == EIO) port->gso = false;
      one_by_one = s.first[1] == NONE ? SEND_DATAGRAMS : s.first[1];
      attempts = 0;
    } else {
      out->failed[*out->failures].index = at;
      out->failed[(*out->failures)++].error = errno;
      at = out->datagrams[at].next;
      attempts = 0;
    }
  }
  return at;
}
