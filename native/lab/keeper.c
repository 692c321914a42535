// The process that a lab lives and dies with: pid 1 of the lab's own user (unless root), mount, pid and network
// namespaces. Everything a lab makes is inside them, so when the keeper ends, for whatever reason, the kernel ends
// and removes all of it. It ends when its standard input closes: that is when the program that made the lab is gone.
#define _GNU_SOURCE
#include "lab.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_file(const char *path, const char *format, unsigned number) {
  char text[64];
  int length = snprintf(text, sizeof text, format, number);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, (size_t)length) != length) die("%s", path);
  close(fd);
}

// `where` tells the caller which kernel limit to name: "user" is about user namespaces, "other" about the rest.
static void leave_host(void) {
  uid_t uid = geteuid();
  gid_t gid = getegid();
  if (uid != 0) {
    if (unshare(CLONE_NEWUSER) < 0) die("refused user");
    write_file("/proc/self/setgroups", "deny", 0);
    write_file("/proc/self/uid_map", "0 %u 1\n", uid);
    write_file("/proc/self/gid_map", "0 %u 1\n", gid);
  }
  if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID) < 0) die("refused other");
}

static void make_mounts(void) {
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) die("mount /");
  // Refused where a container masks parts of /proc; the outer /proc serves as well, it only shows other processes too.
  mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  if (mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64m") < 0) die("mount /run");
  if (mkdir("/run/netns", 0755) < 0 || mkdir("/run/lab", 0755) < 0) die("mkdir /run/netns");
}

static void loopback_up(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0) die("lo up");
  close(fd);
}

static int init_loop(void) {
  for (;;) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    char bytes[256];
    // The timeout is how long a zombie whose parent died may stay.
    if (poll(&input, 1, 1000) > 0 && read(0, bytes, sizeof bytes) == 0) return 0;
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
  }
}

// keeper NAME: NAME is only there to be seen in the process list.
int keeper_main(int argc, char **argv) {
  errno = 0;
  if (argc != 2) die("usage: keeper NAME");
  (void)argv;
  setsid(); // Ctrl-C is for the program that made the lab: it closes us in order.
  pid_t maker = getppid();
  leave_host();
  // After the credentials changed: that clears both.
  prctl(PR_SET_DUMPABLE, 1);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != maker) return 1;

  int ready[2];
  if (pipe2(ready, O_CLOEXEC) < 0) die("pipe");
  pid_t init = fork();
  if (init < 0) die("fork");
  if (init == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    make_mounts();
    loopback_up();
    if (write(ready[1], "", 1) != 1) die("ready");
    close(ready[1]);
    exit(init_loop());
  }
  close(ready[1]);
  char byte;
  if (read(ready[0], &byte, 1) == 1) {
    printf("ready %d\n", init);
    fflush(stdout);
  }
  close(0);
  int status = 0;
  waitpid(init, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
