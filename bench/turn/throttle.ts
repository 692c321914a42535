// `throttle.ts RUN_MS PERIOD_MS PID…`: lets each process run for so long in each period, one after the other, so that they
// are the bottleneck whatever else the machine does. For workers.ts.
const [run = 5, period = 20, ...pids] = process.argv.slice(2).map(Number)
const sleeper = new Int32Array(new SharedArrayBuffer(4))
const sleep = (milliseconds: number): void => {
  Atomics.wait(sleeper, 0, 0, milliseconds)
}
for (const pid of pids) process.kill(pid, 'SIGSTOP')
process.stdout.write('throttling\n')
for (;;) {
  for (const pid of pids) {
    process.kill(pid, 'SIGCONT')
    sleep(run)
    process.kill(pid, 'SIGSTOP')
  }
  sleep(Math.max(0, period - run * pids.length))
}
