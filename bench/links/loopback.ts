import { readFileSync } from 'node:fs'
import { ip, isRoot, Namespaces, type Link } from '../link.ts'

/** Both sides on 127.0.0.1, MTU 65,536; as root in a network namespace of its own, where a route can make TCP use cubic. */
export const link: Link = {
  name: 'loopback',
  unavailable: () => undefined,
  open() {
    if (!isRoot) {
      const side = { host: '127.0.0.1', exec: [] }
      return { server: side, client: side, tcp: systemTcp(), close: () => undefined }
    }
    const namespaces = new Namespaces()
    const name = namespaces.add('lo')
    const route = ['127.0.0.1', 'dev', 'lo', 'scope', 'host', 'src', '127.0.0.1', 'congctl', 'cubic']
    ip('-n', name, 'route', 'replace', 'table', 'local', 'local', ...route)
    const side = { host: '127.0.0.1', exec: namespaces.exec(name) }
    return {
      server: side,
      client: side,
      tcp: 'cubic',
      close: () => {
        namespaces.remove()
      },
    }
  },
}

function systemTcp(): string {
  try {
    return readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim()
  } catch {
    return 'unknown'
  }
}
