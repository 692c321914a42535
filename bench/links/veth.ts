import { ip, isRoot, Namespaces, type Link } from '../link.ts'

/** Two network namespaces and a virtual Ethernet cable between them: MTU 1,500, the kernel's default offloads. */
export const link: Link = {
  name: 'veth, MTU 1500',
  unavailable: () => (isRoot ? undefined : 'needs network namespaces: run it as root'),
  open() {
    const namespaces = new Namespaces()
    try {
      const [a, b] = [namespaces.add('a'), namespaces.add('b')]
      ip('-n', a, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b)
      ip('-n', a, 'address', 'add', '10.0.0.1/24', 'dev', 'eth0')
      ip('-n', b, 'address', 'add', '10.0.0.2/24', 'dev', 'eth0')
      for (const name of [a, b]) {
        ip('-n', name, 'link', 'set', 'eth0', 'up')
        ip('-n', name, 'route', 'replace', '10.0.0.0/24', 'dev', 'eth0', 'congctl', 'cubic')
      }
      return {
        server: { host: '10.0.0.1', exec: namespaces.exec(a) },
        client: { host: '10.0.0.2', exec: namespaces.exec(b) },
        tcp: 'cubic',
        close: () => {
          namespaces.remove()
        },
      }
    } catch (error) {
      namespaces.remove()
      throw error
    }
  },
}
