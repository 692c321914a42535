/**
 * uTP (BEP 29) without a socket: a reliable, ordered byte stream over datagrams.
 *
 * {@link UtpMachine} holds all connections of one UDP socket; {@link UtpConnection} is one of them. Neither reads a clock
 * nor sends: make one mutation (a datagram, a timeout, a call), then drain every transmit, every event, and the next
 * deadline (`Machine` in core).
 *
 * ```ts
 * const machine = new UtpMachine({ rng: systemRng })
 * const connection = machine.connect(now, { remote: { address: '192.0.2.1', port: 1315 } })
 * connection.write(now, bytes)
 * for (let out = machine.pollTransmit(now); out; out = machine.pollTransmit(now)) send(out.data, out.path.remote)
 * ```
 *
 * States of a connection. While it is `open`, its two directions end on their own:
 *
 * | state      | what happened                               | next       | event                                  |
 * | ---------- | ------------------------------------------- | ---------- | -------------------------------------- |
 * | (half-open)| a SYN came; one small record, no connection |            |                                        |
 * |            | any packet that acknowledges our answer     | open       | incoming                               |
 * |            | 30 s pass, or many newer SYNs come          | (nothing)  |                                        |
 * | connecting | `connect`: SYN, again after 1, 2, 4, 8, … s |            |                                        |
 * |            | STATE that acknowledges the SYN             | open       | connected                              |
 * |            | RESET that answers the SYN                  | closed     | closed, ERR_NATWORK_UTP_REFUSED        |
 * |            | `connectTimeout`                            | closed     | closed, ERR_NATWORK_UTP_CONNECT_TIMEOUT|
 * | open       | bytes in order                              | open       | readable                               |
 * |            | FIN, all before it has come and been read   | open       | ended                                  |
 * |            | `end`: FIN after the last byte              | open       |                                        |
 * |            | our FIN acknowledged, and `ended`           | lingering  | closed                                 |
 * |            | RESET, only our FIN missing, after `ended`  | lingering  | closed                                 |
 * |            | RESET that answers a packet of ours         | closed     | closed, ERR_NATWORK_UTP_RESET          |
 * |            | silence: `idleTimeout`, or 15 s and 5 RTOs  | closed     | closed, ERR_NATWORK_UTP_TIMEOUT        |
 * |            | `reset`: RESET is sent                      | closed     | closed                                 |
 * | lingering  | the peer repeats its FIN: acknowledged      | lingering  |                                        |
 * |            | a few seconds pass                          | closed     |                                        |
 *
 * Where files are: packet.ts the wire format; machine.ts who a datagram is for; connection.ts one connection; sender.ts,
 * send-buffer.ts, send-ring.ts, datagrams.ts, loss.ts, rtt.ts, pacer.ts, path-mtu.ts its sending half; receiver.ts, reorder-buffer.ts, receive-buffer.ts
 * its receiving half, receive-window.ts how much the peer may send; congestion/ how much may be in flight; liveness.ts
 * whether the peer is there; timers.ts all it ever waits for.
 *
 * What is not done, and why: packets are never merged once sent, and split only towards natwork, when the path has become
 * too narrow for them (fragments.ts; BEP 29: "uTP cannot repackage"); no delayed
 * small packets (Nagle), the application's writes of one turn go together anyway; no duplicate-SACK or F-RTO to undo a
 * false loss (the wire has no way to tell), the reordering window widens instead.
 */
export type { CongestionName } from './congestion/controller.ts'
export { UtpConnection, type UtpState, type UtpStats } from './connection.ts'
export type { UtpError, UtpErrorCode, UtpUsageCode } from './errors.ts'
export type { UtpEvent } from './events.ts'
export { UtpMachine, type UtpMachineOptions, type UtpMachineStats } from './machine.ts'
export type { UtpConnectionOptions, UtpLimits } from './options.ts'
export * from './driver/index.ts'
