import { readFile } from 'node:fs/promises'
import { InvalidArgumentError, type Command } from 'commander'
import { parse } from 'yaml'
import {
  Lab,
  checkKind,
  execInRunningLab,
  parseTopology,
  runningLabs,
  selfTest,
  type KindReport,
  type Topology,
} from '../lab/index.ts'
import { kindNames, kinds, type KindName } from '../sim/kinds.ts'

/** Adds `natwork lab …`: an internet with NATs in namespaces of this machine. Answers the group, for more commands. */
export function registerLab(program: Command): Command {
  const lab = program
    .command('lab')
    .description('build an internet with real NATs on this machine, and test in it')

  lab
    .command('kinds')
    .description('every router kind and how it behaves')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => printKinds(options.json === true))

  lab
    .command('up')
    .argument('[topology]', 'a YAML or JSON file; default: sites a and b of the kinds given by --a and --b')
    .option('--a <kind>', 'the router of site a', kindArgument, 'port-restricted')
    .option('--b <kind>', 'the router of site b', kindArgument, 'symmetric')
    .option('--name <name>', 'what `natwork lab exec` calls it', 'lab')
    .option('--json', 'print JSON')
    .description('keep a lab open until Ctrl-C')
    .action(up)

  lab
    .command('list')
    .description('the labs that are open')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => {
      const labs = runningLabs()
      if (options.json) printJson(labs)
      else for (const { name, pid } of labs) console.log(`${name}\tpid ${pid}`)
    })

  lab
    .command('exec')
    .argument('<host>', 'a1, b1, helper, a-home …')
    .argument('<program...>', 'after --: the program and its arguments')
    .option('--name <name>', 'which lab', 'lab')
    .description('run a program in a host of an open lab; its exit status is this one’s')
    .action(exec)

  lab
    .command('self-test')
    .argument('[kinds...]', 'default: every kind')
    .option('--json', 'print JSON')
    .description('build every router kind and check from outside that it behaves as declared')
    .action(runSelfTest)

  return lab
}

function kindArgument(text: string): KindName {
  try {
    return checkKind(text)
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}

function printJson(value: unknown): void {
  // What never ends has no number in JSON.
  console.log(JSON.stringify(value, (_key, item: unknown) => (item === Infinity ? 'infinite' : item), 2))
}

function printKinds(json: boolean): void {
  if (json) {
    printJson(kindNames.map((name) => kinds[name]))
    return
  }
  for (const name of kindNames) console.log(`${name.padEnd(26)}${kinds[name].summary}`)
}

interface UpOptions {
  readonly a: KindName
  readonly b: KindName
  readonly name: string
  readonly json?: boolean
}

async function up(file: string | undefined, options: UpOptions): Promise<void> {
  const topology: Topology =
    file === undefined
      ? { sites: { a: options.a, b: options.b } }
      : parseTopology(parse(await readFile(file, 'utf8')) as unknown)
  const stop = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve())
  })
  await using lab = await Lab.create(topology, { name: options.name })
  if (options.json) printJson({ name: lab.name, pid: lab.pid, hosts: lab.hosts })
  else {
    for (const { name, role, addresses } of lab.hosts) {
      console.log(`${name.padEnd(16)}${role.padEnd(8)}${addresses.join(' ')}`)
    }
    const [client] = lab.hosts.filter(({ role }) => role === 'client')
    console.log(
      `natwork lab exec --name ${lab.name} ${client?.name ?? 'helper'} -- PROGRAM runs one there; Ctrl-C ends all`,
    )
  }
  await stop
}

async function exec(host: string, command: string[], options: { name: string }): Promise<void> {
  const [program = '', ...args] = command
  const child = await execInRunningLab(options.name, host, [program, ...args], 'inherit')
  // Ctrl-C reaches the program through the terminal; what it makes of it is what we end with.
  process.on('SIGINT', () => undefined)
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

async function runSelfTest(names: string[], options: { json?: boolean }): Promise<void> {
  const chosen = names.length > 0 ? names.map(checkKind) : kindNames
  const onReport = options.json ? undefined : printReport
  const reports = await selfTest({ kinds: chosen, ...(onReport && { onReport }) })
  const wrong = reports.filter(({ disagreements }) => disagreements.length > 0)
  if (options.json) printJson(reports)
  else console.log(`${reports.length - wrong.length} of ${reports.length} kinds behave as declared`)
  if (wrong.length > 0) process.exitCode = 1
}

function printReport({ kind, observed, disagreements }: KindReport): void {
  const seen = observed
    ? `${observed.mapping} mapping, ${observed.filtering} filtering, ${observed.ports} ports, hairpin ${observed.hairpin}`
    : 'no UDP'
  console.log(`${disagreements.length > 0 ? 'WRONG' : 'ok   '} ${kind.padEnd(26)}${seen}`)
  for (const each of disagreements) console.log(`      ${each}`)
}
