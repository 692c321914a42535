import { Lab } from '../../src/lab/index.ts'
import { helperProgram } from '../../src/lab/native.ts'
import type { PathParameters } from '../../src/lab/topology.ts'
import { isRoot, type Link } from '../link.ts'

/** Two hosts and the lab's path emulator between them (native/lab/path.c); `path` is each direction's. */
export function emulated(name: string, path: PathParameters): Link {
  return {
    name,
    unavailable: () => (isRoot ? undefined : 'sets the congestion control of TCP: run it as root'),
    async open() {
      const none = { delay: 0, hops: 1 }
      const lab = await Lab.create({
        hosts: { server: { path: none }, client: { path: { ...none, ...path } } },
        sites: {},
      })
      const helper = await helperProgram()
      const exec = (host: string): string[] => [helper, 'exec', String(lab.pid), host]
      return {
        server: { host: lab.address('server'), exec: exec('server') },
        client: { host: lab.address('client'), exec: exec('client') },
        close: () => lab.close(),
      }
    },
  }
}

/** Bytes that wait where no rate makes them wait: room enough. */
const AMPLE = 16 * 1024 * 1024

export const rtt50: PathParameters = { delay: 25, queue: AMPLE }
/** 100 Mbit/s and 50 ms, with a queue of one bandwidth-delay product. */
export const rate100: PathParameters = { delay: 25, rate: 100e6, queue: 625_000 }
