import { execFileSync } from 'node:child_process'

/**
 * What lies between the two processes: one file in links/ that exports one, and its name in `linkNames`. It makes what
 * it needs and always removes it.
 */
export interface Link {
  readonly name: string
  /** Why this link cannot be had here, in one line that says what would enable it; undefined when it can. */
  unavailable(): string | undefined
  open(): OpenLink
}

export interface OpenLink {
  readonly server: Side
  readonly client: Side
  /** TCP's congestion control on it: the yardstick must not depend on what a machine prefers. */
  readonly tcp: string
  close(): void
}

export interface Side {
  /** The address of this side. */
  readonly host: string
  /** The command in front of the process of this side. */
  readonly exec: readonly string[]
}

export const linkNames = ['loopback', 'veth'] as const
export type LinkName = (typeof linkNames)[number]

export async function loadLink(name: LinkName): Promise<Link> {
  const { link } = (await import(`./links/${name}.js`)) as { link: Link }
  return link
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

  remove(): void {
    for (const name of this.#names.splice(0)) ip('netns', 'del', name)
  }
}
