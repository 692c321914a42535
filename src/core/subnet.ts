import { BlockList } from 'node:net'
import { familyOf } from './address.ts'

/** Whether an address (without a zone) is in the network `cidr`, such as `192.0.2.1/24`; of a null or odd one nothing is. */
export function subnetOf(cidr: string | null): (address: string) => boolean {
  const [network, length] = cidr?.split('/') ?? []
  if (network === undefined || length === undefined) return () => false
  const family = (address: string): 'ipv4' | 'ipv6' => (familyOf(address) === 4 ? 'ipv4' : 'ipv6')
  const block = new BlockList()
  block.addSubnet(network, Number(length), family(network))
  return (address) => block.check(address, family(address))
}
