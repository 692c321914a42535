/** What the STUN tests against other programs share. */
import 'reflect-metadata'
import { spawn, type ChildProcess } from 'node:child_process'
import { webcrypto } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import * as x509 from '@peculiar/x509'

/** False, or why a test cannot run here: CI installs the programs (scripts/system.mjs). */
export function missing(...programs: string[]): string | false {
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  const absent = programs.filter((name) => !folders.some((folder) => existsSync(join(folder, name))))
  return absent.length === 0 || process.env['CI'] === 'true'
    ? false
    : `needs ${absent.join(', ')} (Debian: apt install coturn stun-client)`
}

/** A UDP port whose successor is free too, which coturn and RFC 5780 want. */
export async function freePorts(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 20_000)
    const free = await Promise.all([isFree(port), isFree(port + 1)])
    if (free.every(Boolean)) return port
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', () => {
      resolve(false)
    })
    socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)))
  })
}

/** Runs a program to its end; what it printed, and its exit code. */
export function output(
  program: string,
  args: readonly string[],
): Promise<{ text: string; code: number | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 })
    let text = ''
    const add = (chunk: Buffer): void => {
      text += chunk.toString()
    }
    child.stdout.on('data', add)
    child.stderr.on('data', add)
    child.once('error', reject)
    child.once('close', (code) => {
      resolve({ text, code })
    })
  })
}

/** coturn, without a configuration file. End it with {@link stop}. */
export function coturn(args: readonly string[]): ChildProcess {
  const quiet = [
    '-n',
    '--no-cli',
    '--log-file',
    '/dev/null',
    '--pidfile',
    '/dev/null',
    '--no-software-attribute',
  ]
  return spawn('turnserver', [...quiet, ...args], { stdio: 'ignore' })
}

export function stop(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      resolve()
      return
    }
    child.once('exit', () => {
      resolve()
    })
    child.kill('SIGKILL')
  })
}

/** A self-signed certificate for `localhost`, or for another name or IP address, in PEM. */
export async function certificate(
  name = 'localhost',
  type: 'dns' | 'ip' = 'dns',
): Promise<{ cert: string; key: string }> {
  x509.cryptoProvider.set(webcrypto)
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 86_400_000),
    notAfter: new Date(Date.now() + 86_400_000),
    extensions: [new x509.SubjectAlternativeNameExtension([{ type, value: name }])],
  })
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  const lines = pkcs8.match(/.{1,64}/g) ?? []
  return {
    cert: made.toString('pem'),
    key: ['-----BEGIN PRIVATE KEY-----', ...lines, '-----END PRIVATE KEY-----', ''].join('\n'),
  }
}
