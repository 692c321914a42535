// Batched UDP: many datagrams in one system call, and many of one destination in one buffer (UDP_SEGMENT, UDP_GRO).
// Two files: batch.c talks to the kernel and knows nothing of JavaScript, addon.c joins it to Node's event loop.
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define RECEIVE_MESSAGES 32
#define RECEIVE_STRIDE 65536 // no UDP datagram and no merged row of them is longer
#define SEND_DATAGRAMS 1024  // that JavaScript may collect
#define REMOTES 4096         // slots of the tables of addresses; a power of two

union address {
  struct sockaddr any;
  struct sockaddr_in four;
  struct sockaddr_in6 six;
};

// What one recvmmsg brought. `bytes` and `info` are JavaScript's memory: message i lies at bytes + i * RECEIVE_STRIDE.
// Used between a system call and the end of the callback about it, so all ports of one thread share one.
struct received {
  uint8_t *bytes;
  union {
    struct { int32_t slot, length, segment, port; }; // slot: NEW_REMOTE when its address is another one now
    struct { int32_t type, code, mtu, to; };         // of an ICMP error: `to` is the port of its datagram
  } *info;
  union address from[RECEIVE_MESSAGES];
  union address remotes[REMOTES];
};
#define NEW_REMOTE (1 << 30)

// What JavaScript collected to be sent, in its memory: one for all ports of a thread, as nothing stays in it when the
// ports have been flushed. What one port is to send is a chain of datagrams, `next` by `next` up to NONE, indices rising.
struct outgoing {
  uint8_t *bytes;
  int32_t *failures;
  struct datagram { int32_t offset, length, slot, ttl, next; } *datagrams; // ttl: 0 for the socket's own
  struct { int32_t index, error; } *failed;
  union address remotes[REMOTES]; // slots, which JavaScript assigns
};
#define NONE (-1)

struct port {
  int fd, family;
  int number;
  bool gso, gro;
  bool errors; // it hears of ICMP errors
};

// Each returns 0 or an errno.
int port_open(struct port *, const union address *at, int receive_buffer, bool reuse_port);
int port_adopt(struct port *, int fd);
int parse_address(const char *text, int number, union address *);
// Text of `size` ≥ 64 bytes, with the zone of a link-local address.
void print_address(const union address *, char *text, int size);

// The number of messages (fewer than RECEIVE_MESSAGES: nothing else waits), or an errno negated.
int port_receive(struct port *, struct received *);
// Bytes that the kernel granted, without its doubling.
int port_receive_buffer(const struct port *);
// From now on the kernel keeps ICMP errors about what this port sends, on a queue of their own. Where it cannot, it does
// not: there are sandboxes.
void port_watch_errors(struct port *);
// Takes ICMP errors from that queue: their number; 0 as well where the queue held others only.
int port_receive_errors(struct port *, struct received *);
// Sends the chain that begins with `first`; returns the first that the kernel has no room for now, or NONE.
int port_send(struct port *, struct outgoing *, int first);
