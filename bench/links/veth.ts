import { isRoot, Namespaces, type Link } from '../link.ts'

/** Two network namespaces and a virtual Ethernet cable between them: MTU 1,500, the kernel's default offloads. */
export const link: Link = veth('veth, MTU 1500', { offloads: true, loss: 0 })

/**
 * With `offloads` a veth hands on whole rows of packets (TCP's and ours), as no wire does; without, each packet passes
 * alone. `loss`, 0–1, is each packet's own in each direction; it needs the packets single.
 */
export function veth(name: string, { offloads, loss }: { offloads: boolean; loss: number }): Link {
  return {
    name,
    unavailable: () => (isRoot ? undefined : 'needs network namespaces: run it as root'),
    open() {
      const namespaces = new Namespaces()
      try {
        const [a, b] = [namespaces.add('a'), namespaces.add('b')]
        namespaces.run(a, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b)
        for (const [name, host] of [
          [a, '10.0.0.1'],
          [b, '10.0.0.2'],
        ] as const) {
          namespaces.run(name, 'ip', 'address', 'add', `${host}/24`, 'dev', 'eth0')
          namespaces.run(name, 'ip', 'link', 'set', 'eth0', 'up')
          if (!offloads)
            namespaces.run(name, 'ethtool', '-K', 'eth0', ...offloadNames.flatMap((one) => [one, 'off']))
          if (loss > 0) namespaces.run(name, 'nft', dropping(loss))
        }
        return {
          server: { host: '10.0.0.1', exec: namespaces.exec(a) },
          client: { host: '10.0.0.2', exec: namespaces.exec(b) },
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
}

/** `gso` alone leaves rows of UDP whole. */
const offloadNames = ['tso', 'tx-udp-segmentation', 'gso', 'gro']

function dropping(loss: number): string {
  const chance = `numgen random mod 1000 < ${loss * 1_000}`
  return `table inet bench { chain input { type filter hook input priority 0; iif eth0 ${chance} drop; }; }`
}
