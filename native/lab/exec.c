// Running programs inside a lab, and inside one of its hosts.
#define _GNU_SOURCE
#include "lab.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static void pass_on(int signal) { kill(child, signal); }

static int is_own(const char *path, const char *own) {
  struct stat a, b;
  return stat(path, &a) == 0 && stat(own, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void join_keeper(const char *pid) {
  static const struct {
    const char *name;
    int type;
  } kinds[] = {{"user", CLONE_NEWUSER}, {"net", CLONE_NEWNET}, {"pid", CLONE_NEWPID}, {"mnt", CLONE_NEWNS}};
  int fds[4];
  for (int i = 0; i < 4; i++) {
    char theirs[64], ours[64];
    snprintf(theirs, sizeof theirs, "/proc/%s/ns/%s", pid, kinds[i].name);
    snprintf(ours, sizeof ours, "/proc/self/ns/%s", kinds[i].name);
    // Entering the user namespace one is in already is an error of its own.
    if (i == 0 && is_own(theirs, ours)) {
      fds[i] = -1;
      continue;
    }
    fds[i] = open(theirs, O_RDONLY | O_CLOEXEC);
    if (fds[i] < 0) die("the lab is gone (%s)", theirs);
  }
  for (int i = 0; i < 4; i++) {
    if (fds[i] >= 0 && setns(fds[i], kinds[i].type) < 0) die("cannot enter the lab's %s namespace", kinds[i].name);
    if (fds[i] >= 0) close(fds[i]);
  }
}

// A host may have its own name server: /run/lab/HOST.resolv.conf covers /etc/resolv.conf for what runs there.
static void own_resolver(const char *host) {
  char path[256];
  snprintf(path, sizeof path, "/run/lab/%s.resolv.conf", host);
  if (access(path, R_OK) < 0) return;
  if (unshare(CLONE_NEWNS) < 0) die("unshare for resolv.conf");
  if (mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0) die("mount resolv.conf");
}

// exec KEEPER_PID HOST PROGRAM ARGUMENTS…: HOST "-" is the lab itself, outside of every host.
int exec_main(int argc, char **argv) {
  errno = 0;
  if (argc < 4) die("usage: exec KEEPER_PID HOST PROGRAM…");
  char directory[PATH_MAX];
  int keep_directory = getcwd(directory, sizeof directory) != NULL;
  join_keeper(argv[1]);
  if (enter_netns(argv[2]) < 0) die("no host %s in this lab", argv[2]);
  if (keep_directory && chdir(directory) < 0 && chdir("/") < 0) die("chdir");

  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  child = fork(); // a process enters a pid namespace only by being born in it
  if (child < 0) die("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    own_resolver(argv[2]);
    execvp(argv[3], argv + 3);
    fprintf(stderr, "natwork-lab: cannot run %s: %s\n", argv[3], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
  }
  struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
  const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};
  for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) sigaction(passed[i], &action, NULL);
  sigprocmask(SIG_SETMASK, &before, NULL);
  int status;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFSIGNALED(status)) {
    // Die as the program died, so that whoever waits sees its signal.
    signal(WTERMSIG(status), SIG_DFL);
    kill(getpid(), WTERMSIG(status));
    return 128 + WTERMSIG(status);
  }
  return WEXITSTATUS(status);
}

// in HOST PROGRAM ARGUMENTS…: from inside the lab, in one of its hosts.
int in_main(int argc, char **argv) {
  errno = 0;
  if (argc < 3) die("usage: in HOST PROGRAM…");
  if (enter_netns(argv[1]) < 0) die("no host %s", argv[1]);
  execvp(argv[2], argv + 2);
  die("cannot run %s", argv[2]);
}

// sysctl HOST KEY=VALUE…: keys with slashes (net/ipv4/ip_forward). A leading ? makes one optional.
int sysctl_main(int argc, char **argv) {
  errno = 0;
  if (argc < 3) die("usage: sysctl HOST KEY=VALUE…");
  if (enter_netns(argv[1]) < 0) die("no host %s", argv[1]);
  for (int i = 2; i < argc; i++) {
    int optional = argv[i][0] == '?';
    char *key = argv[i] + optional;
    char *equals = strchr(key, '=');
    if (!equals) die("sysctl: %s", argv[i]);
    *equals = 0;
    char path[512];
    snprintf(path, sizeof path, "/proc/sys/%s", key);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    size_t length = strlen(equals + 1);
    int failed = fd < 0 || write(fd, equals + 1, length) != (ssize_t)length;
    if (failed && !optional) die("sysctl %s", path);
    if (fd >= 0) close(fd);
  }
  return 0;
}
