// A packet capture of every interface of a host, written as pcap to standard output (LINKTYPE_LINUX_SLL2: each packet
// says which interface it used and which way it went). tcpdump itself gives up root for another user, which a user
// namespace with one user cannot do.
#define _GNU_SOURCE
#include "lab.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SNAPLEN 65535
#define LINKTYPE_LINUX_SLL2 276

static volatile sig_atomic_t stopping;

static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static void write_header(void) {
  const struct {
    uint32_t magic;
    uint16_t major, minor;
    int32_t zone;
    uint32_t sigfigs, snaplen, linktype;
  } header = {0xa1b23c4d, 2, 4, 0, 0, SNAPLEN, LINKTYPE_LINUX_SLL2}; // this magic: nanoseconds
  fwrite(&header, sizeof header, 1, stdout);
}

static void write_packet(const struct sockaddr_ll *from, const uint8_t *bytes, size_t length) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  size_t kept = length < SNAPLEN - 20 ? length : SNAPLEN - 20;
  const uint32_t record[4] = {(uint32_t)now.tv_sec, (uint32_t)now.tv_nsec, (uint32_t)kept + 20, (uint32_t)length + 20};
  uint8_t link[20] = {0};
  memcpy(link, &from->sll_protocol, 2);
  uint32_t index = htonl((uint32_t)from->sll_ifindex);
  memcpy(link + 4, &index, 4);
  uint16_t hardware = htons(from->sll_hatype);
  memcpy(link + 8, &hardware, 2);
  link[10] = from->sll_pkttype;
  link[11] = from->sll_halen;
  memcpy(link + 12, from->sll_addr, from->sll_halen < 8 ? from->sll_halen : 8);
  fwrite(record, sizeof record, 1, stdout);
  fwrite(link, sizeof link, 1, stdout);
  fwrite(bytes, kept, 1, stdout);
}

// capture: says "capturing" on standard error once it misses nothing any more; ends on SIGTERM, SIGINT.
int capture_main(int argc, char **argv) {
  (void)argc, (void)argv;
  int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
  if (fd < 0) die("packet socket");
  int bytes = 8 << 20;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  write_header();
  fflush(stdout);
  fprintf(stderr, "capturing\n");
  static uint8_t packet[SNAPLEN];
  for (;;) {
    struct sockaddr_ll from;
    socklen_t size = sizeof from;
    ssize_t length = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &size);
    if (length >= 0) {
      write_packet(&from, packet, (size_t)length);
      continue;
    }
    // Nothing left: what came before the signal has been written.
    fflush(stdout);
    if (stopping) return 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    poll(&ready, 1, 100);
  }
}
