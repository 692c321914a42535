// The runner: every link, every case, rounds in rotated order of the peers, each side in a process of its own.
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { caseNames, type CaseName } from './case.ts'
import { isRoot, linkNames, loadLink, setTcp, type LinkName, type OpenLink } from './link.ts'
import { measure, type Sample } from './measure.ts'
import { isOurs, loadPeer, peerNames, tcpOf, type PeerName } from './peer.ts'
import { checkRegressions } from './regressions.ts'
import { printTables, type Result } from './report.ts'

const usage = `Usage: npm run bench -- [options]

  --quick            the short form of CI: natwork on both drivers, its encrypted pipe and
                     udx-native, bulk and round trips over veth (loopback without root);
                     fails on a regression by ratio
  --peers A,B        of ${peerNames.join(', ')}
  --links A,B        of ${linkNames.join(', ')} (all but loopback need root)
  --cases A,B        of ${caseNames.join(', ')}
  --rounds N         default 3
  --seconds S        of each measurement; default 2
  --profile FOLDER   write a CPU profile of each process there
  --json             print the results as JSON instead of tables
`

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'string' },
    links: { type: 'string' },
    cases: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    profile: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(usage)
  process.exit()
}

const quick = values.quick
const peers = chosen(
  'peers',
  peerNames,
  values.peers ?? (quick ? 'natwork,natwork-pipe,natwork-dgram,udx-native' : undefined),
)
const links = chosen('links', linkNames, values.links ?? (quick ? (isRoot ? 'veth' : 'loopback') : undefined))
const cases = chosen('cases', caseNames, values.cases ?? (quick ? 'bulk,roundtrips' : undefined))
/** Without --cases: what a link tells something about. */
const told: Record<LinkName, readonly CaseName[]> = {
  loopback: caseNames,
  veth: caseNames,
  'veth-plain': ['bulk'],
  'veth-loss-1': ['bulk', 'roundtrips', 'many'],
  'veth-loss-5': ['bulk'],
  'rtt-50': ['bulk', 'setup'],
  'rtt-50-loss-1': ['bulk'],
  'rate-100': ['bulk'],
}
const rounds = positive('rounds', values.rounds ?? (quick ? '2' : '3'))
const duration = positive('seconds', values.seconds ?? (quick ? '1' : '2')) * 1_000
const options = { warmUp: quick ? 1_000 : 1_500, duration, profile: values.profile }

let open: OpenLink | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    void Promise.resolve(open?.close()).finally(() => process.exit(1))
  })
}

let results = await overLinks()
// A machine may be busy with something else for a moment: a regression shows again.
if (quick && !checkRegressions(results)) {
  console.error('once more')
  results = await overLinks()
  if (!checkRegressions(results)) process.exitCode = 1
}
if (values.json) {
  console.log(JSON.stringify({ node: process.version, cpus: availableParallelism(), results }, undefined, 2))
} else {
  printTables(results)
}

async function overLinks(): Promise<Result[]> {
  const found: Result[] = []
  for (const linkName of links) found.push(...(await overLink(linkName)))
  return found
}

async function overLink(linkName: LinkName): Promise<Result[]> {
  const link = await loadLink(linkName)
  const missing = link.unavailable()
  if (missing !== undefined) {
    console.error(`skipped ${link.name}: ${missing}`)
    return []
  }
  open = await link.open()
  try {
    const found: Result[] = []
    for (const caseName of cases) {
      if (values.cases === undefined && !told[linkName].includes(caseName)) continue
      found.push(...(await oneCase(link.name, open, caseName)))
    }
    return found
  } finally {
    await open.close()
    open = undefined
  }
}

async function oneCase(link: string, on: OpenLink, caseName: CaseName): Promise<Result[]> {
  const samples = new Map<PeerName, Sample[]>(peers.map((peer) => [peer, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [at] of peers.entries()) {
      const peer = peers[(at + round) % peers.length]
      if (peer === undefined) continue
      console.error(`${link}, round ${round + 1} of ${rounds}: ${caseName}, ${peer}`)
      samples.get(peer)?.push(await measured(peer, caseName, on))
    }
  }
  return Promise.all(
    [...samples].map(async ([peer, all]) => ({
      link,
      case: caseName,
      peer,
      name: (await loadPeer(peer)).name,
      samples: all,
    })),
  )
}

// One peer that breaks must not cost the figures of the others.
async function measured(peer: PeerName, caseName: CaseName, on: OpenLink): Promise<Sample> {
  try {
    setTcp(on.server, on.client, tcpOf(peer) ?? 'cubic')
    setTcp(on.client, on.server, tcpOf(peer) ?? 'cubic')
    return await measure(peer, caseName, on, options)
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error)
    console.error(`failed: ${failed}`)
    if (isOurs(peer)) process.exitCode = 1
    return { failed }
  }
}

function chosen<T extends string>(what: string, all: readonly T[], list: string | undefined): readonly T[] {
  if (list === undefined) return all
  return list.split(',').map((name) => {
    const found = all.find((one) => one === name)
    if (found === undefined) fail(`--${what}: no "${name}"; there are ${all.join(', ')}`)
    return found
  })
}

function positive(what: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) fail(`--${what} must be a number above 0, not "${text}"`)
  return value
}

function fail(text: string): never {
  console.error(`bench: ${text}\n\n${usage}`)
  process.exit(2)
}
