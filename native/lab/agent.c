// The observer: one process whose sockets live in whatever host of the lab they were asked for, so that a router can
// be looked at from outside and inside at once, without a program per host.
//
// Commands, one per line (ID is the caller's own number for a socket):
//   open ID HOST ADDRESS PORT        → opened ID PORT | failed ID REASON        a UDP socket
//   send ID ADDRESS PORT TTL HEX     TTL 0: the default
//   listen ID HOST ADDRESS PORT      → opened ID PORT | failed ID REASON        TCP; says back what it hears
//   connect ID HOST ADDRESS PORT     → connected ID | failed ID REASON          TCP
//   write ID HEX
//   close ID
// Events: received ID ADDRESS PORT TTL HEX, heard ID HEX, ended ID, refused ID (an ICMP error for a UDP socket).
#define _GNU_SOURCE
#include "lab.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 8192
#define MAX_BYTES 2048

enum kind { NONE, UDP, LISTENER, CONNECTING, TCP, ECHO };

struct endpoint {
  enum kind kind;
  int fd;
};

static struct endpoint sockets[MAX_SOCKETS]; // by the caller's ID; accepted connections from the top down
static int poller, own_netns;

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static socklen_t parse_address(const char *text, const char *port, union address *out) {
  memset(out, 0, sizeof *out);
  if (strchr(text, ':')) {
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons((uint16_t)atoi(port));
    return inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1 ? sizeof out->v6 : 0;
  }
  out->v4.sin_family = AF_INET;
  out->v4.sin_port = htons((uint16_t)atoi(port));
  return inet_pton(AF_INET, text, &out->v4.sin_addr) == 1 ? sizeof out->v4 : 0;
}

static int port_of(const union address *address) {
  return ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port);
}

static void print_hex(const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i < length; i++) printf("%02x", bytes[i]);
  putchar('\n');
}

static size_t parse_hex(const char *text, uint8_t *bytes) {
  size_t length = 0;
  unsigned byte;
  while (length < MAX_BYTES && sscanf(text + 2 * length, "%2x", &byte) == 1) bytes[length++] = (uint8_t)byte;
  return length;
}

static void keep(int id, enum kind kind, int fd, uint32_t events) {
  sockets[id] = (struct endpoint){kind, fd};
  struct epoll_event event = {.events = events, .data.u32 = (uint32_t)id};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void drop(int id) {
  if (sockets[id].kind == NONE) return;
  close(sockets[id].fd);
  sockets[id].kind = NONE;
}

static int socket_in(const char *host, int family, int type) {
  if (enter_netns(host) < 0) return -1;
  int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int reason = errno, on = 1;
  if (setns(own_netns, CLONE_NEWNET) < 0) die("return to own namespace");
  errno = reason;
  if (fd < 0) return -1;
  // Not for UDP: there it would give two sockets the same port.
  if (type == SOCK_STREAM) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  return fd;
}

static void open_socket(const char *what, int id, char **words) {
  union address at;
  socklen_t size = parse_address(words[3], words[4], &at);
  int udp = what[0] == 'o', connecting = what[0] == 'c';
  int fd = size ? socket_in(words[2], at.any.sa_family, udp ? SOCK_DGRAM : SOCK_STREAM) : -1;
  if (size == 0) errno = EINVAL;
  int on = 1;
  int result = fd < 0 ? -1 : connecting ? connect(fd, &at.any, size) : bind(fd, &at.any, size);
  if (result < 0 && connecting && errno == EINPROGRESS) return keep(id, CONNECTING, fd, EPOLLOUT);
  if (result == 0 && what[0] == 'l') result = listen(fd, 64);
  if (result < 0) {
    printf("failed %d %s\n", id, strerror(errno));
    if (fd >= 0) close(fd);
    return;
  }
  if (udp) {
    setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on);
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on);
  }
  size = sizeof at;
  getsockname(fd, &at.any, &size);
  keep(id, udp ? UDP : connecting ? TCP : LISTENER, fd, EPOLLIN);
  if (connecting) printf("connected %d\n", id);
  else printf("opened %d %d\n", id, port_of(&at));
}

static void send_udp(int id, char **words) {
  union address to;
  socklen_t size = parse_address(words[2], words[3], &to);
  uint8_t bytes[MAX_BYTES];
  size_t length = parse_hex(words[5], bytes);
  int ttl = atoi(words[4]) ? atoi(words[4]) : -1; // -1: back to the default
  int v6 = to.any.sa_family == AF_INET6;
  setsockopt(sockets[id].fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL, &ttl, sizeof ttl);
  if (size && sendto(sockets[id].fd, bytes, length, 0, &to.any, size) < 0) printf("refused %d %s\n", id, strerror(errno));
}

static void run_command(char *line) {
  char *words[8];
  int count = split(line, words, 8);
  if (count < 2) return;
  int id = atoi(words[1]);
  if (id < 0 || id >= MAX_SOCKETS) return;
  const char *what = words[0];
  int opening = strcmp(what, "open") == 0 || strcmp(what, "listen") == 0 || strcmp(what, "connect") == 0;
  if (opening && count == 5 && sockets[id].kind == NONE) open_socket(what, id, words);
  else if (strcmp(what, "send") == 0 && count == 6 && sockets[id].kind == UDP) send_udp(id, words);
  else if (strcmp(what, "write") == 0 && count == 3 && sockets[id].kind == TCP) {
    uint8_t bytes[MAX_BYTES];
    size_t length = parse_hex(words[2], bytes);
    if (send(sockets[id].fd, bytes, length, MSG_NOSIGNAL) < 0) printf("ended %d\n", id);
  } else if (strcmp(what, "close") == 0) drop(id);
  else printf("failed %d no such command or socket\n", id);
}

static void read_udp(int id) {
  uint8_t bytes[MAX_BYTES], control[256];
  union address from;
  struct iovec part = {bytes, sizeof bytes};
  struct msghdr message = {.msg_name = &from,
                           .msg_namelen = sizeof from,
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
  ssize_t length = recvmsg(sockets[id].fd, &message, 0);
  if (length < 0) {
    if (errno != EAGAIN) printf("refused %d %s\n", id, strerror(errno));
    return;
  }
  int ttl = 0;
  for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_type == IP_TTL || item->cmsg_type == IPV6_HOPLIMIT) memcpy(&ttl, CMSG_DATA(item), sizeof ttl);
  }
  char text[INET6_ADDRSTRLEN];
  const void *address = from.any.sa_family == AF_INET6 ? (void *)&from.v6.sin6_addr : (void *)&from.v4.sin_addr;
  inet_ntop(from.any.sa_family, address, text, sizeof text);
  printf("received %d %s %d %d ", id, text, port_of(&from), ttl);
  print_hex(bytes, (size_t)length);
}

static void accept_one(int id) {
  int fd = accept4(sockets[id].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  int slot = MAX_SOCKETS - 1;
  while (slot >= 0 && sockets[slot].kind != NONE) slot--;
  if (fd >= 0 && slot >= 0) keep(slot, ECHO, fd, EPOLLIN);
  else if (fd >= 0) close(fd);
}

static void read_tcp(int id) {
  uint8_t bytes[MAX_BYTES];
  ssize_t length = recv(sockets[id].fd, bytes, sizeof bytes, 0);
  if (length < 0 && errno == EAGAIN) return;
  int echo = sockets[id].kind == ECHO;
  if (length <= 0) {
    if (!echo) printf("ended %d\n", id);
    drop(id);
  } else if (echo) {
    if (send(sockets[id].fd, bytes, (size_t)length, MSG_NOSIGNAL) < 0) drop(id);
  } else {
    printf("heard %d ", id);
    print_hex(bytes, (size_t)length);
  }
}

static void finish_connect(int id) {
  int reason = 0;
  socklen_t size = sizeof reason;
  getsockopt(sockets[id].fd, SOL_SOCKET, SO_ERROR, &reason, &size);
  if (reason) {
    printf("failed %d %s\n", id, strerror(reason));
    drop(id);
    return;
  }
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)id};
  epoll_ctl(poller, EPOLL_CTL_MOD, sockets[id].fd, &event);
  sockets[id].kind = TCP;
  printf("connected %d\n", id);
}

int agent_main(int argc, char **argv) {
  (void)argc, (void)argv;
  own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (own_netns < 0 || poller < 0) die("start");
  struct lines commands;
  lines_init(&commands, 0);
  struct epoll_event input = {.events = EPOLLIN, .data.u32 = MAX_SOCKETS};
  epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input);
  for (;;) {
    struct epoll_event events[64];
    int count = epoll_wait(poller, events, 64, -1);
    for (int i = 0; i < count; i++) {
      int id = (int)events[i].data.u32;
      if (id == MAX_SOCKETS) {
        lines_fill(&commands);
        for (char *line = lines_next(&commands); line; line = lines_next(&commands)) run_command(line);
        if (commands.ended) return 0;
        continue;
      }
      switch (sockets[id].kind) {
      case UDP: read_udp(id); break;
      case LISTENER: accept_one(id); break;
      case CONNECTING: finish_connect(id); break;
      case TCP:
      case ECHO: read_tcp(id); break;
      case NONE: break;
      }
    }
    fflush(stdout);
  }
}
