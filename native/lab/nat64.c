// A stateless IP/ICMP translator (RFC 7915) between 64:ff9b::/96 (RFC 6052) and a private IPv4 pool. Each IPv6 client
// gets an address of the pool; the router's own NAT44 makes the state behind it, so that the two together are a
// stateful NAT64 (RFC 6146). It is a program at the far end of a veth pair inside the router, as /dev/net/tun needs root.
#define _GNU_SOURCE
#include "lab.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_PACKET 2048
#define POOL 240 // clients; more are not translated
enum { ICMP4 = 1, TCP = 6, UDP = 17, FRAGMENT6 = 44, ICMP6 = 58 };

static const uint8_t prefix6[12] = {0, 0x64, 0xff, 0x9b};
static uint8_t pool4[3];
static uint8_t clients[POOL][16];
static int client_count;

static void put16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static uint32_t get16(const uint8_t *at) { return (uint32_t)(at[0] << 8 | at[1]); }

static uint32_t add_words(uint32_t sum, const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i + 1 < length; i += 2) sum += get16(bytes + i);
  if (length & 1) sum += (uint32_t)bytes[length - 1] << 8;
  return sum;
}

static uint16_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

// ---- addresses

static int to_ipv4(const uint8_t *v6, uint8_t *v4) {
  if (memcmp(v6, prefix6, 12) == 0) {
    memcpy(v4, v6 + 12, 4);
    return 1;
  }
  int index = 0;
  while (index < client_count && memcmp(clients[index], v6, 16)) index++;
  if (index == POOL) return 0;
  if (index == client_count) memcpy(clients[client_count++], v6, 16);
  memcpy(v4, pool4, 3);
  v4[3] = (uint8_t)(index + 10);
  return 1;
}

static int to_ipv6(const uint8_t *v4, uint8_t *v6) {
  if (memcmp(v4, pool4, 3) == 0) {
    if (v4[3] < 10 || v4[3] - 10 >= client_count) return 0;
    memcpy(v6, clients[v4[3] - 10], 16);
    return 1;
  }
  memcpy(v6, prefix6, 12);
  memcpy(v6 + 12, v4, 4);
  return 1;
}

// ---- the payload: what has a checksum over the addresses

// RFC 7915 §4.5, §5.5. `change`: words of the new addresses minus those of the old ones, in ones' complement.
static int fix_transport(uint8_t protocol, uint8_t *payload, size_t length, uint32_t change) {
  size_t at = protocol == TCP ? 16 : 6;
  if ((protocol != TCP && protocol != UDP) || length < at + 2) return protocol != TCP && protocol != UDP;
  if (protocol == UDP && get16(payload + 6) == 0) return 0; // a checksum that IPv6 would need and nobody made
  uint16_t sum = fold((uint32_t)(uint16_t)~get16(payload + at) + change);
  put16(payload + at, protocol == UDP && sum == 0 ? 0xffff : sum);
  return 1;
}

static size_t ipv6_to_ipv4(const uint8_t *in, size_t length, uint8_t *out, int quoted);
static size_t ipv4_to_ipv6(const uint8_t *in, size_t length, uint8_t *out, int quoted);

// RFC 7915 §5.2, errors: [ICMPv6 type, code] → [ICMPv4 type, code]; -1: any code, kept or 1 as said.
static size_t icmp6_to_icmp4(const uint8_t *in, size_t length, uint8_t *out, int quoted) {
  if (length < 8) return 0;
  memcpy(out, in, 8);
  size_t total = 8;
  if (in[0] == 128 || in[0] == 129) {
    out[0] = in[0] == 128 ? 8 : 0;
    memcpy(out + 8, in + 8, length - 8);
    total = length;
  } else if (!quoted && (in[0] == 1 || in[0] == 2 || in[0] == 3)) {
    static const uint8_t codes[5] = {1, 10, 1, 1, 3};
    memset(out + 4, 0, 4);
    if (in[0] == 1) out[0] = 3, out[1] = in[1] < 5 ? codes[in[1]] : 1;
    if (in[0] == 2) out[0] = 3, out[1] = 4, put16(out + 6, get16(in + 6) - 20);
    if (in[0] == 3) out[0] = 11;
    size_t inner = ipv6_to_ipv4(in + 8, length - 8, out + 8, 1);
    if (!inner) return 0;
    total = 8 + inner;
  } else return 0;
  put16(out + 2, 0);
  put16(out + 2, fold(add_words(0, out, total)));
  return total;
}

// RFC 7915 §4.2. The checksum covers the IPv6 pseudo-header: the caller's.
static size_t icmp4_to_icmp6(const uint8_t *in, size_t length, uint8_t *out, int quoted) {
  if (length < 8) return 0;
  memcpy(out, in, 8);
  if (in[0] == 8 || in[0] == 0) {
    out[0] = in[0] == 8 ? 128 : 129;
    memcpy(out + 8, in + 8, length - 8);
    return length;
  }
  if (quoted || (in[0] != 3 && in[0] != 11)) return 0;
  memset(out + 4, 0, 4);
  if (in[0] == 11) out[0] = 3;
  else if (in[1] == 4) out[0] = 2, out[1] = 0, put16(out + 6, get16(in + 6) + 20);
  else out[0] = 1, out[1] = in[1] == 3 ? 4 : in[1] == 10 || in[1] == 13 ? 1 : 0;
  size_t inner = ipv4_to_ipv6(in + 8, length - 8, out + 8, 1);
  return inner ? 8 + inner : 0;
}

// ---- whole packets; `quoted`: the cut-off packet inside an ICMP error. 0: not translated.

static size_t ipv6_to_ipv4(const uint8_t *in, size_t length, uint8_t *out, int quoted) {
  if (length < 40 || in[0] >> 4 != 6) return 0;
  size_t end = 40 + get16(in + 4), header = 40;
  if (end > length) {
    if (!quoted) return 0;
    end = length;
  }
  uint8_t protocol = in[6];
  uint32_t identification = 0, fragment = 0x4000; // don't fragment
  if (protocol == FRAGMENT6) {
    if (end < 48) return 0;
    header = 48;
    protocol = in[40];
    uint32_t field = get16(in + 42);
    fragment = field >> 3 | (field & 1) << 13;
    identification = get16(in + 46);
  }
  memset(out, 0, 20);
  if (!to_ipv4(in + 8, out + 12) || !to_ipv4(in + 24, out + 16)) return 0;
  size_t payload = end - header;
  if (protocol == ICMP6) {
    payload = icmp6_to_icmp4(in + header, payload, out + 20, quoted);
    if (!payload) return 0;
    protocol = ICMP4;
  } else {
    memcpy(out + 20, in + header, payload);
    uint32_t change = add_words(0, out + 12, 8);
    uint8_t old[32];
    for (int i = 0; i < 32; i++) old[i] = (uint8_t)~in[8 + i];
    change = add_words(change, old, 32);
    int first = (fragment & 0x1fff) == 0;
    if (first && !fix_transport(protocol, out + 20, payload, change) && !quoted) return 0;
  }
  out[0] = 0x45;
  out[1] = (uint8_t)(in[0] << 4 | in[1] >> 4);
  put16(out + 2, (uint32_t)(20 + (quoted && protocol != ICMP4 ? get16(in + 4) - (header - 40) : payload)));
  put16(out + 4, identification);
  put16(out + 6, fragment);
  out[8] = in[7];
  out[9] = protocol;
  put16(out + 10, fold(add_words(0, out, 20)));
  return 20 + payload;
}

static size_t ipv4_to_ipv6(const uint8_t *in, size_t length, uint8_t *out, int quoted) {
  if (length < 20 || in[0] >> 4 != 4) return 0;
  size_t from = (size_t)(in[0] & 15) * 4, end = get16(in + 2);
  if (end > length) {
    if (!quoted) return 0;
    end = length;
  }
  if (from < 20 || from > end) return 0;
  uint32_t fragment = get16(in + 6) & 0x3fff; // offset and "more"
  size_t header = fragment ? 48 : 40, payload = end - from;
  uint8_t protocol = in[9];
  memset(out, 0, header);
  if (!to_ipv6(in + 12, out + 8) || !to_ipv6(in + 16, out + 24)) return 0;
  if (protocol == ICMP4) {
    if (fragment) return 0; // its checksum would need the whole
    payload = icmp4_to_icmp6(in + from, payload, out + header, quoted);
    if (!payload) return 0;
    protocol = ICMP6;
    put16(out + header + 2, 0);
    uint32_t sum = add_words(add_words(0, out + 8, 32), out + header, payload);
    put16(out + header + 2, fold(sum + (uint32_t)payload + ICMP6));
  } else {
    memcpy(out + header, in + from, payload);
    uint8_t old[8];
    for (int i = 0; i < 8; i++) old[i] = (uint8_t)~in[12 + i];
    uint32_t change = add_words(add_words(0, out + 8, 32), old, 8);
    int first = (fragment & 0x1fff) == 0;
    if (first && !fix_transport(protocol, out + header, payload, change) && !quoted) return 0;
  }
  out[0] = (uint8_t)(0x60 | in[1] >> 4);
  out[1] = (uint8_t)(in[1] << 4);
  put16(out + 4, (uint32_t)(header - 40 + (quoted && protocol != ICMP6 ? get16(in + 2) - from : payload)));
  out[6] = fragment ? FRAGMENT6 : protocol;
  out[7] = in[8];
  if (fragment) {
    out[40] = protocol;
    put16(out + 42, (fragment & 0x1fff) << 3 | fragment >> 13);
    put16(out + 46, get16(in + 4));
  }
  return header + payload;
}

// nat64 INTERFACE PEER POOL: the two ends of the veth pair, ours first; POOL as 192.168.255. Says "ready" once it translates.
int nat64_main(int argc, char **argv) {
  errno = 0;
  if (argc != 4) die("usage: nat64 INTERFACE PEER POOL");
  uint8_t header[14] = {0};
  if (offloads_off(argv[2], header) < 0) die("interface %s", argv[2]);
  if (sscanf(argv[3], "%hhu.%hhu.%hhu", pool4, pool4 + 1, pool4 + 2) != 3) die("pool %s", argv[3]);
  header[6] = 2, header[11] = 1;
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) die("packet socket");
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(argv[1])};
  if (at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0) die("interface %s", argv[1]);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    uint8_t frame[MAX_PACKET], out[MAX_PACKET + 128];
    ssize_t length = recv(fd, frame, sizeof frame, 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) die("receive");
    if (length < 34) continue;
    uint32_t type = get16(frame + 12);
    size_t ip = (size_t)length - 14, made = 0;
    if (type == ETH_P_IPV6 && memcmp(frame + 14 + 24, prefix6, 12) == 0) made = ipv6_to_ipv4(frame + 14, ip, out + 14, 0);
    if (type == ETH_P_IP) made = ipv4_to_ipv6(frame + 14, ip, out + 14, 0);
    if (!made) continue;
    memcpy(out, header, 12);
    put16(out + 12, type == ETH_P_IP ? ETH_P_IPV6 : ETH_P_IP);
    // A full socket buffer is a lost packet.
    if (send(fd, out, made + 14, 0) < 0 && errno != ENOBUFS && errno != EAGAIN) die("send");
  }
}
