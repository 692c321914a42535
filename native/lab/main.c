#include "lab.h"
#include <string.h>

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
} jobs[] = {
    {"keeper", keeper_main}, {"exec", exec_main},   {"in", in_main},           {"sysctl", sysctl_main},
    {"path", path_main},     {"agent", agent_main}, {"capture", capture_main},
    {"nat64", nat64_main},   {"dns64", dns64_main},
};

int main(int argc, char **argv) {
  for (size_t i = 0; argc > 1 && i < sizeof jobs / sizeof *jobs; i++) {
    if (strcmp(argv[1], jobs[i].name) == 0) return jobs[i].run(argc - 1, argv + 1);
  }
  fprintf(stderr, "natwork-lab is natwork's helper for its lab; use `natwork lab`\n");
  return 2;
}
