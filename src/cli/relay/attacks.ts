import { formatAddress, familyOf, type SocketAddress } from '../../core/index.ts'
import { Attribute, Method, type StunView } from '../../stun/index.ts'
import { TransportProtocol } from '../../turn/index.ts'
import { Probe } from './probe.ts'

/** What an attack is run against. */
export interface Target {
  readonly server: SocketAddress
  readonly user: { readonly username: string; readonly password: string }
  /** Is there a TCP port with the same number? */
  readonly tcp: boolean
}

/** `held`: the server did not let it through. `through`: it did. `skipped`: could not be tried, and why. */
export interface Outcome {
  readonly verdict: 'held' | 'through' | 'skipped'
  readonly detail: string
}

export interface Attack {
  readonly name: string
  readonly run: (target: Target) => Promise<Outcome>
}

/** What is tried against a TURN server, gentlest first. Each attack cleans up behind itself. */
export const attacks: readonly Attack[] = [
  { name: 'anonymous allocation', run: anonymous },
  { name: 'default credentials', run: defaultCredentials },
  { name: 'guessing users by different answers', run: userGuessing },
  { name: 'nonce of another client', run: borrowedNonce },
  { name: 'amplification before authentication', run: amplification },
  { name: 'loopback as a peer', run: peers(['127.0.0.1', '127.255.255.254', '::1']) },
  { name: 'unspecified address as a peer', run: peers(['0.0.0.0', '0.1.2.3', '::']) },
  { name: 'cloud metadata as a peer', run: peers(['169.254.169.254', 'fd00:ec2::254', '100.100.100.200']) },
  {
    name: 'private networks as peers',
    run: peers([
      '10.0.0.1',
      '172.16.0.1',
      '172.31.255.254',
      '192.168.1.1',
      '100.64.0.1',
      'fc00::1',
      'fec0::1',
    ]),
  },
  { name: 'link-local peers', run: peers(['169.254.1.1', 'fe80::1']) },
  {
    name: 'multicast and broadcast',
    run: peers(['224.0.0.251', '239.255.255.250', '255.255.255.255', 'ff02::1']),
  },
  {
    name: 'reserved and documentation addresses',
    run: peers([
      '192.0.0.1',
      '192.0.2.1',
      '198.18.0.1',
      '198.51.100.1',
      '203.0.113.1',
      '240.0.0.1',
      '2001:db8::1',
    ]),
  },
  {
    name: 'loopback in IPv6 clothes',
    run: peers(['::ffff:127.0.0.1', '::127.0.0.1', '2002:7f00:1::1', '64:ff9b::7f00:1', '64:ff9b:1::7f00:1']),
  },
  {
    name: 'metadata in IPv6 clothes',
    run: peers([
      '::ffff:169.254.169.254',
      '::169.254.169.254',
      '2002:a9fe:a9fe::1',
      '64:ff9b::a9fe:a9fe',
      '64:ff9b:1::a9fe:a9fe',
      // Teredo hides the client's address by turning every bit.
      '2001:0:a9fe:a9fe::5601:5601',
    ]),
  },
  {
    name: 'private network in IPv6 clothes',
    run: peers(['::ffff:10.0.0.1', '::10.0.0.1', '2002:a00:1::1', '64:ff9b::a00:1', '::ffff:0:10.0.0.1']),
  },
  { name: 'the relay itself as a peer', run: ownPort },
  { name: 'allocation of another 5-tuple', run: otherTuple },
  { name: 'reserved channel numbers', run: channelNumbers },
  { name: 'data without permission', run: withoutPermission },
  { name: 'ChannelData whose length lies', run: lyingLengths },
  { name: 'padding that leaks memory (CVE-2020-4067)', run: padding },
  { name: 'permission flood', run: permissionFlood },
  { name: 'allocation flood', run: allocationFlood },
  { name: 'malformed messages', run: malformed },
  { name: 'malformed TCP framing', run: tcpFraming },
  { name: 'slow-loris over TCP', run: slowLoris },
  { name: 'TCP relaying as a port scanner', run: tcpRelaying },
]

const held = (detail: string): Outcome => ({ verdict: 'held', detail })
const through = (detail: string): Outcome => ({ verdict: 'through', detail })
const skipped = (detail: string): Outcome => ({ verdict: 'skipped', detail })

async function anonymous({ server }: Target): Promise<Outcome> {
  return withProbe(server, 'udp', undefined, async (probe) => {
    const { code } = await probe.allocate()
    return code === 0 ? through('an allocation without credentials') : held(`answered ${code}`)
  })
}

/** What documentation and container images are full of. */
const defaults = [
  ['admin', 'admin'],
  ['user', 'password'],
  ['user', 'pass'],
  ['test', 'test'],
  ['guest', 'guest'],
  ['turn', 'turn'],
  ['turnuser', 'turnpassword'],
  ['webrtc', 'webrtc'],
  ['ninefingers', 'youhavetoberealistic'],
] as const

async function defaultCredentials({ server, user }: Target): Promise<Outcome> {
  const open: string[] = []
  for (const [username, password] of defaults) {
    if (username === user.username && password === user.password) {
      open.push(`${username} (the one given to this check)`)
      continue
    }
    const { code } = await withProbe(server, 'udp', { username, password }, (probe) => probe.allocate())
    if (code !== 401) open.push(`${username} (answered ${code})`)
  }
  return open.length > 0 ? through(open.join(', ')) : held(`${defaults.length} pairs refused`)
}

async function userGuessing({ server, user }: Target): Promise<Outcome> {
  const ask = async (username: string): Promise<{ code: number; length: number; times: number[] }> =>
    withProbe(server, 'udp', { username, password: `${user.password}, but wrong` }, async (probe) => {
      const first = await probe.allocate()
      return { code: first.code, length: first.view.bytes.length, times: [first.roundTrip] }
    })
  const stranger = 'x'.repeat(user.username.length)
  const known: number[] = []
  const unknown: number[] = []
  for (let round = 0; round < 20; round++) {
    const a = await ask(user.username)
    const b = await ask(stranger)
    if (a.code !== b.code || a.length !== b.length) {
      return through(
        `a user that exists gets ${a.code} in ${a.length} bytes, another one ${b.code} in ${b.length}`,
      )
    }
    known.push(...a.times)
    unknown.push(...b.times)
  }
  const middle = (values: number[]): number => values.sort((x, y) => x - y)[values.length >> 1] ?? 0
  return held(`same answers; median ${middle(known).toFixed(0)} and ${middle(unknown).toFixed(0)} µs`)
}

async function borrowedNonce({ server, user }: Target): Promise<Outcome> {
  return withProbe(server, 'udp', user, async (victim) => {
    const { code } = await victim.allocate()
    if (code !== 0) return skipped(`no allocation: ${code}`)
    return withProbe(server, 'udp', undefined, async (thief) => {
      // Knows realm and nonce of the other 5-tuple, and would be told another nonce if that one is not good.
      const stolen = victim.auth
      thief.auth = stolen
      let asked = 0
      const reply = await thief.request(Method.Allocate, (request) => {
        asked++
        request.uint8(Attribute.RequestedTransport, TransportProtocol.Udp, true)
      })
      return asked > 1 || reply.code !== 0
        ? held(`the nonce of another address is answered ${asked > 1 ? 438 : reply.code}`)
        : through('a nonce is good for every address')
    })
  })
}

async function amplification({ server }: Target): Promise<Outcome> {
  return withProbe(server, 'udp', undefined, async (probe) => {
    const { view, requestLength } = await probe.allocate()
    // As the network counts it: with the headers of IP and UDP.
    const headers = familyOf(server.address) === 6 ? 48 : 28
    const factor = (view.bytes.length + headers) / (requestLength + headers)
    const detail = `${requestLength} bytes get ${view.bytes.length}: ${factor.toFixed(1)} × on the wire`
    return factor > 3.5 ? through(detail) : held(detail)
  })
}

/** By CreatePermission and by ChannelBind; on a relay of each family that there is. */
function peers(addresses: readonly string[]): Attack['run'] {
  return async ({ server, user }) => {
    const open: string[] = []
    let tried = 0
    for (const family of [4, 6] as const) {
      const mine = addresses.filter((address) => familyOf(address) === family)
      if (mine.length === 0) continue
      await withProbe(server, 'udp', user, async (probe) => {
        const { code } = await probe.request(Method.Allocate, (request) => {
          request.uint8(Attribute.RequestedTransport, TransportProtocol.Udp, true)
          if (family === 6) request.uint8(Attribute.RequestedAddressFamily, 2, true)
        })
        if (code !== 0) return
        let channel = 0x4200
        for (const address of mine) {
          const peer = { address, port: 80 }
          tried++
          if ((await probe.permit(peer)).code === 0) open.push(`${address} by CreatePermission`)
          if ((await probe.bind(channel++, peer)).code === 0) open.push(`${address} by ChannelBind`)
        }
      })
    }
    if (open.length > 0) return through(open.join(', '))
    return tried === 0 ? skipped('no allocation of that family') : held(`${tried} addresses refused`)
  }
}

async function ownPort({ server, user }: Target): Promise<Outcome> {
  return withAllocation(server, user, async (probe) => {
    const { code } = await probe.bind(0x4200, server)
    return code === 0
      ? through(`a channel to ${formatAddress(server)}: relayed loops`)
      : held(`answered ${code}`)
  })
}

async function otherTuple({ server, user }: Target): Promise<Outcome> {
  return withAllocation(server, user, () =>
    withProbe(server, 'udp', user, async (other) => {
      const refresh = await other.request(Method.Refresh, (request) =>
        request.uint32(Attribute.Lifetime, 600),
      )
      const permit = await other.permit({ address: '8.8.8.8', port: 53 })
      const open = [refresh, permit].filter(({ code }) => code === 0)
      return open.length > 0 ? through('another 5-tuple uses it') : held(`answered ${refresh.code}`)
    }),
  )
}

async function channelNumbers({ server, user }: Target): Promise<Outcome> {
  return withAllocation(server, user, async (probe) => {
    const open: string[] = []
    for (const number of [0x0001, 0x3fff, 0x8000, 0xffff]) {
      const { code } = await probe.bind(number, { address: '8.8.8.8', port: 53 })
      if (code === 0) open.push(`0x${number.toString(16)}`)
    }
    return open.length > 0 ? through(open.join(', ')) : held('refused')
  })
}

/** Two allocations of the relay talk to each other: nothing else is asked to answer. */
async function between(
  { server, user }: Target,
  talk: (from: Probe, to: SocketAddress, heard: readonly string[]) => Promise<Outcome>,
): Promise<Outcome> {
  return withAllocation(server, user, (from, mine) =>
    withAllocation(server, user, async (listener, theirs) => {
      const heard: string[] = []
      listener.onUnasked = (message) => heard.push(message.toString('latin1'))
      const { code } = await listener.permit(mine)
      if (code !== 0) return skipped(`its own relayed addresses are no peers: ${code}`)
      return talk(from, theirs, heard)
    }),
  )
}

async function withoutPermission(target: Target): Promise<Outcome> {
  return between(target, async (from, to, heard) => {
    from.indicate(to, Buffer.from('never permitted'))
    if ((await from.permit(to)).code !== 0) return skipped('its own relayed addresses are no peers')
    if (!(await arrives(heard, 'permitted now', () => from.indicate(to, Buffer.from('permitted now'))))) {
      return skipped('nothing is relayed between two of its own addresses')
    }
    return heard.some((one) => one.includes('never permitted')) ? through('it arrived') : held('dropped')
  })
}

async function lyingLengths(target: Target): Promise<Outcome> {
  return between(target, async (from, to, heard) => {
    if ((await from.bind(0x4200, to)).code !== 0) return skipped('its own relayed addresses are no peers')
    const frame = (length: number, text: string): Uint8Array =>
      Buffer.concat([Buffer.of(0x42, 0, length >> 8, length & 255), Buffer.from(text)])
    for (const length of [9, 100, 1_400, 0xffff]) from.send(frame(length, 'too long'))
    if (!(await arrives(heard, 'the truth', () => from.send(frame(9, 'the truth'))))) {
      return skipped('nothing is relayed between two of its own addresses')
    }
    return heard.some((one) => one.includes('too long'))
      ? through('relayed with what was in memory behind it')
      : held('dropped')
  })
}

/** Until it is heard; sent a few times, as datagrams get lost. */
async function arrives(heard: readonly string[], text: string, send: () => void): Promise<boolean> {
  for (let n = 0; n < 20; n++) {
    if (n % 5 === 0) send()
    await new Promise((resolve) => setTimeout(resolve, 50))
    if (heard.some((one) => one.includes(text))) return true
  }
  return false
}

/** Every answer of a conversation, errors and successes: what is behind an attribute's value has to be zero. */
async function padding({ server, user }: Target): Promise<Outcome> {
  const dirty: string[] = []
  const look = ({ view }: { view: StunView }): void => {
    for (let at = view.first(); at !== -1; at = view.next(at)) {
      const end = at + 4 + view.lengthAt(at)
      const rest = view.bytes.subarray(end, at + 4 + ((view.lengthAt(at) + 3) & ~3))
      if (rest.some((byte) => byte !== 0)) dirty.push(`0x${view.typeAt(at).toString(16)}`)
    }
  }
  await withProbe(server, 'udp', undefined, async (probe) => look(await probe.allocate()))
  await withProbe(server, 'udp', user, async (probe) => {
    for (let n = 0; n < 5; n++) {
      look(await probe.allocate())
      look(await probe.request(Method.Refresh))
      look(await probe.permit({ address: '8.8.8.8', port: 53 }))
      look(await probe.bind(1, { address: '8.8.8.8', port: 53 }))
    }
  })
  return dirty.length > 0 ? through(`behind attribute ${[...new Set(dirty)].join(', ')}`) : held('all zeros')
}

async function permissionFlood({ server, user }: Target): Promise<Outcome> {
  return withAllocation(server, user, async (probe) => {
    const at = (n: number): SocketAddress => ({ address: `8.${(n >> 8) & 255}.${n & 255}.8`, port: 9 })
    for (let n = 0; n < FLOOD; n += 50) {
      const { code } = await probe.request(Method.CreatePermission, (request) => {
        for (let k = n; k < n + 50; k++) request.xorAddress(Attribute.XorPeerAddress, at(k))
      })
      if (code !== 0) return held(`answered ${code} after ${n}`)
    }
    return through(`${FLOOD} permissions in one allocation`)
  })
}

async function allocationFlood({ server, user }: Target): Promise<Outcome> {
  const probes: Probe[] = []
  try {
    for (let n = 0; n < MANY_ALLOCATIONS; n++) {
      const probe = await Probe.open(server, 'udp', user)
      probes.push(probe)
      const { code } = await probe.allocate()
      if (code !== 0) return held(`answered ${code} after ${n}`)
    }
    return through(`${MANY_ALLOCATIONS} allocations of one user`)
  } finally {
    await Promise.all(probes.map((probe) => probe.close()))
  }
}

async function malformed({ server, user }: Target): Promise<Outcome> {
  return withAllocation(server, user, async (probe) => {
    const bad = [
      [],
      [0],
      [0x40],
      [0x42, 0, 0xff, 0xff, 1],
      [0, 3, 0, 200, 0x21, 0x12, 0xa4, 0x42],
      [0, 3, 0, 4, 0x21, 0x12, 0xa4, 0x42, ...zeros(12), 0, 6, 0xff, 0xff],
      [0, 0x16, 0, 8, 0x21, 0x12, 0xa4, 0x42, ...zeros(12), 0, 0x12, 0, 4, 0, 9, 0, 0],
    ]
    for (const bytes of bad) probe.send(Uint8Array.from(bytes))
    const { code } = await probe.request(Method.Refresh)
    return code === 0 ? held('the server goes on') : through(`answered ${code} afterwards`)
  })
}

async function tcpFraming({ server, user, tcp }: Target): Promise<Outcome> {
  if (!tcp) return skipped('no TCP port')
  for (const bytes of [
    [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, ...zeros(40)],
    [0, 3, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42, ...zeros(2_000)],
    [0x40, 0, 0xff, 0xff, ...zeros(8_000)],
    [0, 1, 0, 1, 0x21, 0x12, 0xa4, 0x42, ...zeros(13)],
  ]) {
    const probe = await Probe.open(server, 'tcp')
    probe.send(Uint8Array.from(bytes))
    probe.abandon()
  }
  return withProbe(server, 'tcp', user, async (probe) => {
    const { code } = await probe.allocate()
    return code === 0 ? held('the server goes on') : through(`answered ${code} afterwards`)
  })
}

/** A request that never gets whole. */
async function slowLoris({ server, tcp }: Target): Promise<Outcome> {
  if (!tcp) return skipped('no TCP port')
  return withProbe(server, 'tcp', undefined, async (probe) => {
    for (let seconds = 0; seconds < PATIENCE; seconds++) {
      if (probe.closed) return held(`closed after ${seconds} s`)
      // A byte now and then: who counts silence only is fooled.
      if (seconds % 2 === 0)
        probe.send(Uint8Array.of([0, 3, 0, 100, 0x21, 0x12, 0xa4, 0x42][seconds / 2] ?? 0))
      await new Promise((resolve) => setTimeout(resolve, 1_000))
    }
    return through(`still open after ${PATIENCE} s`)
  })
}

async function tcpRelaying({ server, user, tcp }: Target): Promise<Outcome> {
  if (!tcp) return skipped('no TCP port')
  return withProbe(server, 'tcp', user, async (probe) => {
    const { code } = await probe.allocate(TransportProtocol.Tcp)
    if (code !== 0) return held(`no TCP relaying: ${code}`)
    const open: string[] = []
    for (const address of ['127.0.0.1', '169.254.169.254', '10.0.0.1']) {
      const reply = await probe.request(Method.Connect, (request) =>
        request.xorAddress(Attribute.XorPeerAddress, { address, port: 22 }),
      )
      // 447 says that it has tried.
      if (reply.code === 0 || reply.code === 447) open.push(address)
    }
    return open.length > 0 ? through(`connects to ${open.join(', ')}`) : held('relays TCP, but not to these')
  })
}

const FLOOD = 5_000
const MANY_ALLOCATIONS = 300
/** Seconds. */
const PATIENCE = 90

const zeros = (length: number): number[] => new Array<number>(length).fill(0)

function withAllocation(
  server: SocketAddress,
  user: Target['user'],
  use: (probe: Probe, relayed: SocketAddress) => Promise<Outcome>,
): Promise<Outcome> {
  return withProbe(server, 'udp', user, async (probe) => {
    const { code, view } = await probe.allocate()
    const relayed = view.xorAddress(Attribute.XorRelayedAddress)
    return code === 0 && relayed !== undefined ? use(probe, relayed) : skipped(`no allocation: ${code}`)
  })
}

async function withProbe<T>(
  server: SocketAddress,
  transport: 'udp' | 'tcp',
  user: { username: string; password: string } | undefined,
  use: (probe: Probe) => Promise<T>,
): Promise<T> {
  const probe = await Probe.open(server, transport, user)
  try {
    return await use(probe)
  } finally {
    await probe.close()
  }
}
