import { formatAddress, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { isNodeId, type NodeId } from './node-id.ts'

/** A local TCP port that its owner shares by a name. Nothing else on the machine can be reached. */
export interface Service {
  /** 1–63 of `a`–`z`, `0`–`9` and inner `-`, as in a host name. */
  readonly name: string
  /** Name or address of the machine that has the port, as seen from this node: usually `127.0.0.1`. */
  readonly host: string
  /** TCP port, 1–65535. */
  readonly port: number
  /**
   * Who may use it: a list of node ids, or `'*'` for every node in the world. Nobody when absent: then only a ticket
   * opens it.
   */
  readonly allow?: readonly NodeId[] | '*'
}

export function isServiceName(name: string): boolean {
  return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name)
}

/** The services of one node, by name. Only the owner changes it. */
export class Services {
  readonly #byName = new Map<string, Service>()

  /**
   * Shares a service, or changes the one of that name. Open pipes stay.
   *
   * @throws {UsageError} `ERR_NATWORK_SERVICE`
   */
  set(service: Service): void {
    const wrong = whatIsWrong(service)
    if (wrong !== undefined) throw new UsageError('ERR_NATWORK_SERVICE', wrong)
    this.#byName.set(service.name, { ...service })
  }

  /** @returns whether there was one. Open pipes stay. */
  delete(name: string): boolean {
    return this.#byName.delete(name)
  }

  get(name: string): Service | undefined {
    return this.#byName.get(name)
  }

  [Symbol.iterator](): Iterator<Service> {
    return this.#byName.values()
  }

  /** Whether the owner wrote this very id into some allow list: such a node is no stranger. */
  names(id: NodeId): boolean {
    for (const { allow } of this.#byName.values()) {
      if (allow !== undefined && allow !== '*' && allow.includes(id)) return true
    }
    return false
  }
}

export function mayUse(service: Service, id: NodeId): boolean {
  return service.allow === '*' || (service.allow?.includes(id) ?? false)
}

export function targetOf(service: Service): string {
  const at: SocketAddress = { address: service.host, port: service.port }
  return formatAddress(at)
}

function whatIsWrong({ name, host, port, allow }: Service): string | undefined {
  if (!isServiceName(name)) {
    return `"${name}" cannot name a service: use 1 to 63 letters a–z, digits and inner dashes`
  }
  if (host === '') return `service "${name}" needs the host its port is on, usually 127.0.0.1`
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    return `service "${name}" needs a TCP port from 1 to 65535, not ${port}`
  }
  const ids: readonly string[] = allow === undefined || allow === '*' ? [] : allow
  const stranger = ids.find((id) => !isNodeId(id))
  if (stranger !== undefined) return `service "${name}" allows "${stranger}", which is not a node id`
  return undefined
}
