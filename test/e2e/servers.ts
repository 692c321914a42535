// Real servers from Debian for the pipes to carry: private, unprivileged where they can be, gone with the test.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { debianPackages, findProgram } from '../../scripts/system.mjs'

/** The path of a program, or a line that says what is skipped and what would enable it. */
export function need(t: TestContext, ...names: (keyof typeof debianPackages)[]): string[] | undefined {
  const paths = names.map((name) => findProgram(name))
  const missing = names.filter((_name, index) => paths[index] === undefined)
  if (missing.length > 0) {
    const packages = missing.map((name) => debianPackages[name]).join(' ')
    t.skip(`no ${missing.join(', ')} here; \`apt-get install ${packages}\` enables it`)
    return undefined
  }
  return paths as string[]
}

/** Listens on a free port of the loopback until the test ends. */
export async function listen(t: TestContext, server: Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => {
    server.close()
    if ('closeAllConnections' in server) (server.closeAllConnections as () => void)()
  })
  return (server.address() as AddressInfo).port
}

/** A port that was free a moment ago, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

export interface Sshd {
  readonly port: number
  /** Options for ssh(1): this server's keys, nothing of the user's. */
  readonly options: readonly string[]
  readonly user: string
}

/** OpenSSH's server for the current user, on a free port. */
export async function startSshd(t: TestContext, sshd: string): Promise<Sshd> {
  const folder = temporary(t, 'sshd')
  const key = (name: string): string => {
    const file = join(folder, name)
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file])
    return file
  }
  const [host, user] = [key('host'), key('user')]
  copyFileSync(`${user}.pub`, join(folder, 'authorized'))
  const port = await freePort()
  const config = join(folder, 'config')
  writeFileSync(
    config,
    `Port ${port}
ListenAddress 127.0.0.1
HostKey ${host}
AuthorizedKeysFile ${join(folder, 'authorized')}
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
`,
  )
  // As root it wants this folder of the package, which only its service makes.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  const child = spawn(sshd, ['-D', '-e', '-f', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  await running(t, child, /Server listening/)
  const options = [
    '-F',
    'none',
    '-i',
    user,
    '-o',
    'UserKnownHostsFile=/dev/null',
    '-o',
    'StrictHostKeyChecking=no',
  ]
  return {
    port,
    options: [...options, '-o', 'LogLevel=ERROR', '-o', 'BatchMode=yes'],
    user: userInfo().username,
  }
}

/** A PostgreSQL cluster of its own on a free port; any local user may enter. As root it runs as `postgres`. */
export async function startPostgres(t: TestContext, postgres: string): Promise<number> {
  const folder = temporary(t, 'postgres')
  const data = join(folder, 'data')
  mkdirSync(data)
  chmodSync(folder, 0o755)
  chmodSync(data, 0o700)
  let owner = {}
  if (process.getuid?.() === 0) {
    const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
    const [uid, gid] = [id('-u'), id('-g')]
    chownSync(data, uid, gid)
    owner = { uid, gid }
  }
  const initdb = join(postgres, '../initdb')
  execFileSync(initdb, ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '--locale=C'], {
    ...owner,
    cwd: folder,
    stdio: 'ignore',
  })
  const port = await freePort()
  const settings = { port, listen_addresses: '127.0.0.1', unix_socket_directories: data, fsync: 'off' }
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn(postgres, ['-D', data, ...args], {
    ...owner,
    cwd: data,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await running(t, child, /ready to accept connections/, 'SIGINT')
  return port
}

/** Waits until the server says that it runs; stops it, and waits for its end, when the test is over. */
async function running(t: TestContext, child: ChildProcess, ready: RegExp, stop: NodeJS.Signals = 'SIGTERM') {
  const ended = once(child, 'close')
  t.after(async () => {
    child.kill(stop)
    await ended
  })
  let said = ''
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      if (ready.test(said)) resolve()
    })
    child.once('close', () => reject(new Error(`it ended:\n${said}`)))
  })
}

function temporary(t: TestContext, name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `natwork-${name}-`))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
