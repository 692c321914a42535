// The programs that tests talk to and that npm cannot bring. One list: tests look here for what to tell the user.
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { spawnSync } from 'node:child_process'

/** Program → the Debian package that has it. */
export const debianPackages = {
  ip: 'iproute2',
  nft: 'nftables',
  conntrack: 'conntrack',
  tcpdump: 'tcpdump',
  ethtool: 'ethtool',
  cc: 'gcc libc6-dev',
  turnserver: 'coturn',
  'systemd-analyze': 'systemd',
  stun: 'stun-client',
  miniupnpd: 'miniupnpd-nftables',
  curl: 'curl',
  ssh: 'openssh-client',
  sshd: 'openssh-server',
  nc: 'netcat-openbsd',
  psql: 'postgresql-client',
  postgres: 'postgresql',
}

/** Where a program is, or undefined. Debian keeps daemons outside a user's PATH, and PostgreSQL's in its own folder. */
export function findProgram(name) {
  const folders = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/sbin',
    '/sbin',
    '/usr/lib/postgresql/15/bin',
  ]
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file))
}

/** Under CI nothing may be skipped: install what is missing (Debian, as root). */
export function installSystemPackages() {
  const missing = Object.entries(debianPackages).filter(([program]) => findProgram(program) === undefined)
  if (missing.length === 0) return
  const names = [...new Set(missing.flatMap(([, packages]) => packages.split(' ')))]
  console.error(`natwork: installing ${names.join(' ')} …`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  // Quiet on success; services that a package would start are not wanted on a test machine.
  const apt = (...args) =>
    spawnSync('apt-get', ['-qq', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] })
  apt('update')
  const { status } = apt('install', '-y', '--no-install-recommends', ...names)
  if (status !== 0) {
    console.error(`natwork: could not install ${names.join(' ')}; tests that need them will fail`)
    process.exit(1)
  }
}
