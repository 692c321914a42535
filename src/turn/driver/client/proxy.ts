import { BlockList, isIP } from 'node:net'

/** An HTTP proxy that makes TCP connections for others (CONNECT, RFC 9110 §9.3.6). */
export interface HttpProxy {
  readonly host: string
  readonly port: number
  /** TLS to the proxy itself. */
  readonly secure: boolean
  /** The value of Proxy-Authorization; a secret. */
  readonly authorization: string | undefined
}

/**
 * The proxy that the environment names for this host, by the conventions that curl and Go have in common: `HTTPS_PROXY`,
 * `ALL_PROXY` or `HTTP_PROXY`, in this order, in capitals or not, unless `NO_PROXY` names the host.
 *
 * @returns undefined: connect directly. A proxy URL that cannot be used counts as none.
 */
export function proxyFor(
  env: Readonly<Record<string, string | undefined>>,
  host: string,
  port: number,
): HttpProxy | undefined {
  const value = (name: string): string => env[name.toLowerCase()] ?? env[name] ?? ''
  const url = value('HTTPS_PROXY') || value('ALL_PROXY') || value('HTTP_PROXY')
  if (url === '' || isExempt(value('NO_PROXY'), host, port)) return undefined
  return parseProxy(url)
}

/** `http://user:password@proxy.example.org:3128`, `https://…`, or `proxy.example.org:3128`. */
export function parseProxy(text: string): HttpProxy | undefined {
  const full = text.includes('://') ? text : `http://${text}`
  if (!URL.canParse(full)) return undefined
  const url = new URL(full)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined
  const secure = url.protocol === 'https:'
  const user = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    secure,
    authorization: url.username === '' ? undefined : `Basic ${Buffer.from(user).toString('base64')}`,
  }
}

/** A list of names (with all below them), addresses, CIDR blocks, each with a port or without; `*`: everything. */
function isExempt(list: string, host: string, port: number): boolean {
  const name = host.toLowerCase().replace(/\.$/, '')
  if (name === 'localhost' || isLoopback(name)) return true
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true
      if (entry.includes('/')) return isInBlock(name, entry)
      const [, literal, rest, only] = /^(?:\[(.+)\]|([^:]+))(?::(\d+))?$/.exec(entry) ?? []
      if (only !== undefined && Number(only) !== port) return false
      const wanted = literal ?? rest ?? entry
      const suffix = wanted.replace(/^\*?\./, '')
      return name === suffix || (isIP(name) === 0 && name.endsWith(`.${suffix}`))
    })
}

function isLoopback(host: string): boolean {
  return host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

function isInBlock(host: string, entry: string): boolean {
  const [network = '', bits = ''] = entry.split('/')
  const family = isIP(network)
  if (isIP(host) !== family || family === 0 || !/^\d+$/.test(bits)) return false
  const type = family === 6 ? 'ipv6' : 'ipv4'
  const block = new BlockList()
  try {
    block.addSubnet(network, Number(bits), type)
  } catch {
    return false
  }
  return block.check(host, type)
}
