import { execFileSync } from 'node:child_process'

/**
 * What lies between the two processes: one file in links/ that exports one, and its name in `linkNames`. It makes what
 * it needs and always removes it.
 */
export interface Link {
  readonly name: string
  /** Why this link cannot be had here, in one line that says what would enable it; undefined when it can. */
  unavailable(): string | undefined
  open(): OpenLink | Promise<OpenLink>
}

export interface OpenLink {
  readonly server: Side
  readonly client: Side
  close(): void | Promise<void>
}

export interface Side {
  /** The address of this side. */
  readonly host: string
  /** The command in front of the process of this side. */
  readonly exec: readonly string[]
}

export const linkNames = [
  'loopback',
  'veth',
  'veth-plain',
  'veth-loss-1',
  'veth-loss-5',
  'rtt-50',
  'rtt-50-loss-1',
  'rate-100',
] as const
export type LinkName = (typeof linkNames)[number]

export async function loadLink(name: LinkName): Promise<Link> {
  const { link } = (await import(`./links/${name}.js`)) as { link: Link }
  return link
}

/**
 * TCP's congestion control from one side to the other: the yardstick must not depend on what a machine prefers. By a
 * route, because a namespace may not choose among all of them by itself.
 */
export function setTcp({ exec }: Side, to: Side, congestion: string): void {
  if (!isRoot) return
  const ip = (...args: string[]): string => {
    const [program = '', ...rest] = [...exec, 'ip', ...args]
    return execFileSync(program, rest, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  }
  const way = ip('-o', 'route', 'get', to.host).split('\\')[0]?.split(' uid ')[0]?.trim().split(/\s+/) ?? []
  const table = way[0] === 'local' ? ['table', 'local'] : []
  const gateway = way.includes('via') ? ['onlink'] : []
  ip(
    'route',
    'replace',
    ...way.filter((word) => word !== 'cache'),
    ...table,
    ...gateway,
    'congctl',
    congestion,
  )
}

export function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] })
}

export const isRoot = process.getuid?.() === 0

/** Network namespaces of this run, each with a loopback device. */
export class Namespaces {
  readonly #names: string[] = []

  add(label: string): string {
    const name = `natwork-bench-${process.pid}-${label}`
    ip('netns', 'add', name)
    this.#names.push(name)
    ip('-n', name, 'link', 'set', 'lo', 'up')
    return name
  }

  exec(name: string): readonly string[] {
    return ['ip', 'netns', 'exec', name]
  }

  /** Runs a program inside, to its end. */
  run(name: string, program: string, ...args: readonly string[]): void {
    execFileSync('ip', ['netns', 'exec', name, program, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  }

  remove(): void {
    for (const name of this.#names.splice(0)) ip('netns', 'del', name)
  }
}
