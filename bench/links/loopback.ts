import { isRoot, Namespaces, type Link } from '../link.ts'

/** Both sides on 127.0.0.1, MTU 65,536; as root in a network namespace of its own, where TCP's control can be set. */
export const link: Link = {
  name: 'loopback',
  unavailable: () => undefined,
  open() {
    if (!isRoot) {
      const side = { host: '127.0.0.1', exec: [] }
      return { server: side, client: side, close: () => undefined }
    }
    const namespaces = new Namespaces()
    const side = { host: '127.0.0.1', exec: namespaces.exec(namespaces.add('lo')) }
    return {
      server: side,
      client: side,
      close: () => {
        namespaces.remove()
      },
    }
  },
}
