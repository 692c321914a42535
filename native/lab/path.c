// The path emulator: userspace IP routers between the lab's networks. Each of its ports is the far end of a veth pair
// whose near end is a router's or a public host's only way out. Packets between two ports get delay, jitter, a rate
// with a queue, loss and hops, and are counted, so that "direct" is measured and not believed.
//
// It answers nothing by itself (neighbours are configured, not resolved) except, when asked to, ICMP time exceeded.
#define _GNU_SOURCE
#include "lab.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MAX_PORTS 512
#define MAX_ROUTES 4096
#define MAX_PACKET 2048
#define MAX_WAITING_BYTES (64 << 20) // of all packets on their way together

enum { UP, DOWN }; // towards the emulator, away from it
enum { LOST, QUEUE_FULL, TTL_EXCEEDED, NO_ROUTE, OVERLOAD, REASONS };
static const char *const reason_names[REASONS] = {"loss", "queue", "ttl", "route", "overload"};

struct direction {
  int64_t delay, jitter; // µs
  int64_t rate;          // bit/s; 0: no limit
  int64_t queue;         // bytes that may wait for the rate
  int64_t loss;          // parts per million
  int hops;
  int64_t free_at;  // when the rate limiter has sent all it took
  int64_t last_out; // packets of one direction keep their order
  uint64_t dropped[REASONS];
};

struct port {
  char name[64], segment[64];
  int fd;
  uint8_t header[14];
  struct direction direction[2];
};

struct route {
  char segment[64];
  int family, length;
  uint8_t prefix[16];
  int port;
};

struct packet {
  int64_t at;
  uint64_t order;
  int from, to;
  int out; // has passed UP's delay and waits for DOWN's
  size_t length;
  uint8_t bytes[];
};

struct count {
  uint64_t packets, bytes;
};

static struct port *ports[MAX_PORTS];
static struct route routes[MAX_ROUTES];
static int route_count;
static struct count *counts; // [from * MAX_PORTS + to]
static struct packet **heap;
static size_t heap_used, heap_size, waiting_bytes;
static uint64_t next_order, random_state;
static int poller, timer;
static struct in_addr icmp4;
static struct in6_addr icmp6;
static int icmp_on;

// xorshift64*: loss and jitter need no better.
static uint64_t random64(void) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * 2685821657736338717ULL;
}

// ---- waiting packets: a binary heap by time, then by arrival

static int sooner(const struct packet *a, const struct packet *b) {
  return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_push(struct packet *packet) {
  if (heap_used == heap_size) {
    heap_size = heap_size ? heap_size * 2 : 1024;
    heap = realloc(heap, heap_size * sizeof *heap);
    if (!heap) die("out of memory");
  }
  size_t i = heap_used++;
  for (; i && sooner(packet, heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
  heap[i] = packet;
}

static struct packet *heap_pop(void) {
  struct packet *top = heap[0], *last = heap[--heap_used];
  size_t i = 0;
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= heap_used) break;
    if (child + 1 < heap_used && sooner(heap[child + 1], heap[child])) child++;
    if (!sooner(heap[child], last)) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = last;
  return top;
}

// ---- IP

static uint16_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

static uint32_t add_words(uint32_t sum, const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i + 1 < length; i += 2) sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
  if (length & 1) sum += (uint32_t)bytes[length - 1] << 8;
  return sum;
}

static void put16(uint8_t *at, uint16_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static int is_ipv4(const uint8_t *ip) { return ip[0] >> 4 == 4; }

// A whole IPv4 or IPv6 packet by its header?
static int is_ip(const uint8_t *ip, size_t length) {
  if (length >= 20 && is_ipv4(ip)) return (ip[0] & 15) >= 5 && (size_t)(ip[0] & 15) * 4 <= length;
  return length >= 40 && ip[0] >> 4 == 6;
}

static uint8_t *ttl_of(uint8_t *ip) { return is_ipv4(ip) ? ip + 8 : ip + 7; }

static void take_hops(uint8_t *ip, int hops) {
  *ttl_of(ip) = (uint8_t)(*ttl_of(ip) - hops);
  if (!is_ipv4(ip)) return;
  put16(ip + 10, 0);
  put16(ip + 10, fold(add_words(0, ip, (size_t)(ip[0] & 15) * 4)));
}

static int prefix_matches(const struct route *route, const uint8_t *address) {
  int whole = route->length / 8, rest = route->length % 8;
  if (memcmp(route->prefix, address, (size_t)whole)) return 0;
  return rest == 0 || (route->prefix[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static int route_lookup(const char *segment, const uint8_t *ip) {
  int family = is_ipv4(ip) ? AF_INET : AF_INET6, best = -1, best_length = -1;
  const uint8_t *address = ip + (family == AF_INET ? 16 : 24);
  for (int i = 0; i < route_count; i++) {
    const struct route *route = &routes[i];
    if (route->family != family || route->length <= best_length || strcmp(route->segment, segment)) continue;
    if (!prefix_matches(route, address)) continue;
    best = route->port;
    best_length = route->length;
  }
  return best;
}

// ---- the way of a packet

// When a packet that enters this direction now leaves it; -1: it does not.
static int64_t pass(struct direction *direction, int64_t now, size_t length) {
  if (direction->loss && (int64_t)(random64() >> 11) % 1000000 < direction->loss) {
    direction->dropped[LOST]++;
    return -1;
  }
  int64_t at = now;
  if (direction->rate) {
    int64_t free_at = direction->free_at > now ? direction->free_at : now;
    int64_t backlog = (free_at - now) * direction->rate / 8000000;
    if (backlog + (int64_t)length > direction->queue) {
      direction->dropped[QUEUE_FULL]++;
      return -1;
    }
    at = direction->free_at = free_at + (int64_t)length * 8000000 / direction->rate;
  }
  at += direction->delay;
  if (direction->jitter) at += (int64_t)(random64() >> 11) % (direction->jitter + 1);
  if (at < direction->last_out) at = direction->last_out;
  return direction->last_out = at;
}

static void transmit(int to, const uint8_t *ip, size_t length) {
  uint8_t frame[MAX_PACKET + 14];
  memcpy(frame, ports[to]->header, 12);
  put16(frame + 12, is_ipv4(ip) ? ETH_P_IP : ETH_P_IPV6);
  memcpy(frame + 14, ip, length);
  // A full socket buffer is a lost packet, as on any wire.
  if (send(ports[to]->fd, frame, length + 14, 0) < 0) ports[to]->direction[DOWN].dropped[OVERLOAD]++;
}

static void deliver(struct packet *packet) {
  struct count *count = &counts[packet->from * MAX_PORTS + packet->to];
  count->packets++;
  count->bytes += packet->length;
  transmit(packet->to, packet->bytes, packet->length);
}

static void free_packet(struct packet *packet) {
  waiting_bytes -= packet->length;
  free(packet);
}

// Moves a packet to the next place whose time has come, or lets it wait.
static void advance(struct packet *packet, int64_t now) {
  if (!packet->out) {
    if (packet->at > now) return heap_push(packet);
    packet->at = pass(&ports[packet->to]->direction[DOWN], packet->at, packet->length);
    if (packet->at < 0) return free_packet(packet);
    packet->out = 1;
  }
  if (packet->at > now) return heap_push(packet);
  deliver(packet);
  free_packet(packet);
}

// RFC 792 and RFC 4443 §3.3, back out of the port it came by. Never about ICMP errors (RFC 1122 §3.2.2).
static void send_time_exceeded(int from, const uint8_t *ip, size_t length) {
  uint8_t reply[1280] = {0};
  if (is_ipv4(ip)) {
    size_t header = (size_t)(ip[0] & 15) * 4;
    if (ip[9] == 1 && length > header && ip[header] != 8 && ip[header] != 0) return;
    size_t quoted = length < 548 ? length : 548;
    reply[0] = 0x45;
    put16(reply + 2, (uint16_t)(28 + quoted));
    reply[8] = 60;
    reply[9] = 1;
    memcpy(reply + 12, &icmp4, 4);
    memcpy(reply + 16, ip + 12, 4);
    put16(reply + 10, fold(add_words(0, reply, 20)));
    reply[20] = 11;
    memcpy(reply + 28, ip, quoted);
    put16(reply + 22, fold(add_words(0, reply + 20, 8 + quoted)));
    transmit(from, reply, 28 + quoted);
    return;
  }
  if (ip[6] == 58 && length > 40 && ip[40] < 128) return;
  size_t quoted = length < 1232 ? length : 1232;
  reply[0] = 0x60;
  put16(reply + 4, (uint16_t)(8 + quoted));
  reply[6] = 58;
  reply[7] = 60;
  memcpy(reply + 8, &icmp6, 16);
  memcpy(reply + 24, ip + 8, 16);
  reply[40] = 3;
  memcpy(reply + 48, ip, quoted);
  uint32_t sum = add_words(add_words(0, reply + 8, 32), reply + 40, 8 + quoted);
  put16(reply + 42, fold(sum + (uint32_t)(8 + quoted) + 58));
  transmit(from, reply, 48 + quoted);
}

static void accept_packet(int from, uint8_t *ip, size_t length, int64_t now) {
  struct direction *up = &ports[from]->direction[UP];
  if (!is_ip(ip, length) || length > MAX_PACKET) return;
  int to = route_lookup(ports[from]->segment, ip);
  if (to < 0) {
    up->dropped[NO_ROUTE]++;
    return;
  }
  int hops = up->hops + ports[to]->direction[DOWN].hops;
  if (*ttl_of(ip) <= hops) {
    up->dropped[TTL_EXCEEDED]++;
    if (icmp_on) send_time_exceeded(from, ip, length);
    return;
  }
  take_hops(ip, hops);
  if (waiting_bytes + length > MAX_WAITING_BYTES) {
    up->dropped[OVERLOAD]++;
    return;
  }
  int64_t at = pass(up, now, length);
  if (at < 0) return;
  struct packet *packet = malloc(sizeof *packet + length);
  if (!packet) die("out of memory");
  *packet = (struct packet){.at = at, .order = next_order++, .from = from, .to = to, .length = length};
  memcpy(packet->bytes, ip, length);
  waiting_bytes += length;
  advance(packet, now);
}

static void read_port(int from) {
  uint8_t frame[MAX_PACKET + 14];
  for (int budget = 64; budget--;) {
    ssize_t length = recv(ports[from]->fd, frame, sizeof frame, MSG_TRUNC);
    if (length < 0) return;
    uint16_t type = (uint16_t)(frame[12] << 8 | frame[13]);
    if (length < 34 || length > (ssize_t)sizeof frame || (type != ETH_P_IP && type != ETH_P_IPV6)) continue;
    accept_packet(from, frame + 14, (size_t)length - 14, now_us());
  }
}

static void release_due(void) {
  int64_t now = now_us();
  while (heap_used && heap[0]->at <= now) advance(heap_pop(), now);
}

static void set_timer(void) {
  struct itimerspec at = {0};
  if (heap_used) {
    int64_t due = heap[0]->at > 0 ? heap[0]->at : 1;
    at.it_value.tv_sec = due / 1000000;
    at.it_value.tv_nsec = due % 1000000 * 1000;
  }
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

// ---- commands: one line each, answered by "ok" or "error TEXT"

static int find_port(const char *name) {
  for (int i = 0; i < MAX_PORTS; i++) {
    if (ports[i] && strcmp(ports[i]->name, name) == 0) return i;
  }
  return -1;
}

// In the host's namespace, and back.
static int prepare_peer(const char *netns, const char *interface, uint8_t *mac) {
  int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (own < 0 || enter_netns(netns) < 0) return -1;
  int result = offloads_off(interface, mac);
  int reason = errno;
  if (setns(own, CLONE_NEWNET) < 0) die("return to own namespace");
  close(own);
  errno = reason;
  return result;
}

static int open_wire(const char *interface) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  int bytes = 8 << 20, on = 1;
  // The forced size needs the host's root; the plain one is cut to net.core.rmem_max.
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  struct sockaddr_ll at = {.sll_family = AF_PACKET,
                           .sll_protocol = htons(ETH_P_ALL),
                           .sll_ifindex = (int)if_nametoindex(interface)};
  if (at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
    close(fd);
    return -1;
  }
  return fd;
}

static const char *add_port(char **words, int count) { // port NAME SEGMENT INTERFACE PEER_NETNS PEER_INTERFACE
  if (count != 6) return "usage";
  if (find_port(words[1]) >= 0) return "exists";
  int index = 0;
  while (index < MAX_PORTS && ports[index]) index++;
  if (index == MAX_PORTS) return "too many ports";
  struct port *port = calloc(1, sizeof *port);
  if (!port) die("out of memory");
  snprintf(port->name, sizeof port->name, "%s", words[1]);
  snprintf(port->segment, sizeof port->segment, "%s", words[2]);
  static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 1}; // the neighbour that every attached host has configured
  memcpy(port->header + 6, own_mac, 6);
  port->fd = -1;
  if (prepare_peer(words[4], words[5], port->header) < 0 || (port->fd = open_wire(words[3])) < 0) {
    free(port);
    return strerror(errno);
  }
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
  epoll_ctl(poller, EPOLL_CTL_ADD, port->fd, &event);
  ports[index] = port;
  return NULL;
}

static const char *parse_prefix(char *text, struct route *route) {
  char *slash = strchr(text, '/');
  route->family = strchr(text, ':') ? AF_INET6 : AF_INET;
  route->length = slash ? atoi(slash + 1) : route->family == AF_INET ? 32 : 128;
  if (slash) *slash = 0;
  if (inet_pton(route->family, text, route->prefix) != 1) return "not a prefix";
  if (route->length < 0 || route->length > (route->family == AF_INET ? 32 : 128)) return "not a prefix";
  return NULL;
}

static const char *change_route(char **words, int count) { // route SEGMENT PREFIX PORT | unroute SEGMENT PREFIX
  int adding = words[0][0] == 'r';
  if (count != (adding ? 4 : 3)) return "usage";
  struct route wanted = {0};
  snprintf(wanted.segment, sizeof wanted.segment, "%s", words[1]);
  const char *error = parse_prefix(words[2], &wanted);
  if (error) return error;
  int at = 0;
  while (at < route_count && (routes[at].family != wanted.family || routes[at].length != wanted.length ||
                              strcmp(routes[at].segment, wanted.segment) || memcmp(routes[at].prefix, wanted.prefix, 16)))
    at++;
  if (!adding) {
    if (at == route_count) return "no such route";
    routes[at] = routes[--route_count];
    return NULL;
  }
  if ((wanted.port = find_port(words[3])) < 0) return "no such port";
  if (at == MAX_ROUTES) return "too many routes";
  if (at == route_count) route_count++;
  routes[at] = wanted;
  return NULL;
}

static const char *set_parameters(char **words, int count) { // set PORT up|down KEY=NUMBER…
  int index = count > 2 ? find_port(words[1]) : -1;
  if (index < 0) return "no such port";
  struct direction *direction = &ports[index]->direction[strcmp(words[2], "down") == 0 ? DOWN : UP];
  for (int i = 3; i < count; i++) {
    char *equals = strchr(words[i], '=');
    if (!equals) return "usage";
    *equals = 0;
    int64_t value = strtoll(equals + 1, NULL, 10);
    if (value < 0) return "negative";
    if (strcmp(words[i], "delay") == 0) direction->delay = value;
    else if (strcmp(words[i], "jitter") == 0) direction->jitter = value;
    else if (strcmp(words[i], "rate") == 0) direction->rate = value;
    else if (strcmp(words[i], "queue") == 0) direction->queue = value;
    else if (strcmp(words[i], "loss") == 0) direction->loss = value;
    else if (strcmp(words[i], "hops") == 0) direction->hops = (int)value;
    else return "unknown parameter";
  }
  direction->free_at = direction->last_out = 0;
  return NULL;
}

static const char *set_icmp(char **words, int count) { // icmp off | icmp IPV4 IPV6
  icmp_on = 0;
  if (count == 2) return NULL;
  if (count != 3 || inet_pton(AF_INET, words[1], &icmp4) != 1 || inet_pton(AF_INET6, words[2], &icmp6) != 1) return "usage";
  icmp_on = 1;
  return NULL;
}

static void print_counters(void) {
  for (int from = 0; from < MAX_PORTS; from++) {
    if (!ports[from]) continue;
    for (int to = 0; to < MAX_PORTS; to++) {
      const struct count *count = &counts[from * MAX_PORTS + to];
      if (count->packets)
        printf("pair %s %s %lu %lu\n", ports[from]->name, ports[to]->name, count->packets, count->bytes);
    }
    for (int way = 0; way < 2; way++) {
      for (int reason = 0; reason < REASONS; reason++) {
        uint64_t dropped = ports[from]->direction[way].dropped[reason];
        if (dropped) printf("drop %s %s %s %lu\n", ports[from]->name, way ? "down" : "up", reason_names[reason], dropped);
      }
    }
    struct tpacket_stats missed;
    socklen_t size = sizeof missed;
    if (getsockopt(ports[from]->fd, SOL_PACKET, PACKET_STATISTICS, &missed, &size) == 0)
      ports[from]->direction[UP].dropped[OVERLOAD] += missed.tp_drops;
  }
}

static void run_command(char *line) {
  char *words[16];
  int count = split(line, words, 16);
  const char *error = NULL;
  if (count == 0) return;
  if (strcmp(words[0], "port") == 0) error = add_port(words, count);
  else if (strcmp(words[0], "route") == 0 || strcmp(words[0], "unroute") == 0) error = change_route(words, count);
  else if (strcmp(words[0], "set") == 0) error = set_parameters(words, count);
  else if (strcmp(words[0], "icmp") == 0) error = set_icmp(words, count);
  else if (strcmp(words[0], "counters") == 0) print_counters();
  else error = "unknown command";
  if (error) printf("error %s %s: %s\n", words[0], count > 1 ? words[1] : "", error);
  else printf("ok\n");
}

int path_main(int argc, char **argv) {
  (void)argc, (void)argv;
  prctl(PR_SET_TIMERSLACK, 1);
  if (getrandom(&random_state, sizeof random_state, 0) < 0) die("getrandom");
  random_state |= 1;
  counts = calloc(MAX_PORTS * MAX_PORTS, sizeof *counts);
  poller = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (!counts || poller < 0 || timer < 0) die("start");
  struct lines commands;
  lines_init(&commands, 0);
  struct epoll_event input = {.events = EPOLLIN, .data.u32 = MAX_PORTS};
  struct epoll_event alarm = {.events = EPOLLIN, .data.u32 = MAX_PORTS + 1};
  epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input);
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &alarm);
  for (;;) {
    struct epoll_event events[64];
    int count = epoll_wait(poller, events, 64, -1);
    for (int i = 0; i < count; i++) {
      uint32_t what = events[i].data.u32;
      if (what < MAX_PORTS) read_port((int)what);
      else if (what == MAX_PORTS) {
        lines_fill(&commands);
        for (char *line = lines_next(&commands); line; line = lines_next(&commands)) run_command(line);
        fflush(stdout);
        if (commands.ended) return 0;
      } else {
        uint64_t expirations;
        if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timer");
      }
    }
    release_due();
    set_timer();
  }
}
