// 1 s. What the TURN client makes of each answer that RFC 8656, RFC 6062 and RFC 8016 know.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SECOND } from '../../../src/core/machine.ts'
import { Attribute, ErrorCode, Method, type StunBuilder } from '../../../src/stun/index.ts'
import { channelOf } from '../../../src/turn/index.ts'
import { RELAYED, SERVER, Stage, type Script } from './scripted.ts'

const peer = (n = 0): { address: string; port: number } => ({
  address: `198.51.100.${1 + (n % 200)}`,
  port: 4_000 + n,
})
const usual: Script = (_request, answer) => answer.usual()
/** Answers one method with an error, everything else as usual. */
const refusing =
  (method: number, code: number, attributes?: (builder: StunBuilder) => unknown): Script =>
  (request, answer) =>
    request.method === method ? answer.error(code, attributes) : answer.usual()

describe('Allocate', () => {
  test('an allocation, and what it says of itself', () => {
    const stage = new Stage({
      request: { family: 'both', dontFragment: true, mobility: true, lifetime: 900 },
      script: (request, answer) =>
        request.method === Method.Allocate
          ? answer.ok((builder) =>
              builder
                .xorAddress(Attribute.XorRelayedAddress, RELAYED)
                .xorAddress(Attribute.XorMappedAddress, { address: '203.0.113.5', port: 1315 })
                .uint32(Attribute.Lifetime, 900)
                .bytes(Attribute.AddressErrorCode, Uint8Array.of(2, 0, 4, 40))
                .bytes(Attribute.MobilityTicket, Uint8Array.of(1, 2, 3)),
            )
          : answer.usual(),
    }).allocated()
    assert.deepEqual(stage.client.allocation, {
      relayed: [RELAYED],
      mapped: { address: '203.0.113.5', port: 1315 },
      server: SERVER.remote,
      lifetime: 900,
      reservationToken: undefined,
      dontFragment: true,
      mobility: true,
      missing: { family: 6, status: 440 },
    })
    const [request] = stage.requests
    assert.equal(request?.uint8(Attribute.RequestedTransport), 17)
    assert.equal(request.uint8(Attribute.AdditionalAddressFamily), 2)
    assert.equal(request.uint32(Attribute.Lifetime), 900)
    assert.equal(request.value(Attribute.MobilityTicket)?.length, 0)
    assert.ok(request.has(Attribute.DontFragment))
  })

  for (const [code, seconds] of [
    [ErrorCode.AllocationQuotaReached, 60],
    [ErrorCode.AddressFamilyNotSupported, Infinity],
    [ErrorCode.WrongCredentials, Infinity],
    [ErrorCode.UnsupportedTransportProtocol, Infinity],
    [ErrorCode.Forbidden, Infinity],
    [ErrorCode.BadRequest, Infinity],
  ] as const) {
    test(`${code}: failed, and the server is to be left alone for ${seconds} s`, () => {
      const stage = new Stage({ script: refusing(Method.Allocate, code) }).allocated()
      const [event] = stage.events
      assert.ok(event?.type === 'failed')
      assert.equal(event.retryAfter, seconds * SECOND)
      stage.run(3_600)
      assert.equal(stage.requests.length, 1, 'not asked again by itself')
    })
  }

  test('508: asked again by the rules of 5xx, then failed for a minute', () => {
    const stage = new Stage({ script: refusing(Method.Allocate, ErrorCode.InsufficientCapacity) }).allocated()
    stage.run(60)
    const [event] = stage.events
    assert.ok(event?.type === 'failed')
    assert.equal(event.retryAfter, 60 * SECOND)
  })

  test('420 for DONT-FRAGMENT: without it then, and the allocation says so', () => {
    const stage = new Stage({
      request: { dontFragment: true },
      script: (request, answer) =>
        request.has(Attribute.DontFragment)
          ? answer.error(ErrorCode.UnknownAttribute, (builder) =>
              builder.unknownAttributes([Attribute.DontFragment]),
            )
          : answer.usual(),
    }).allocated()
    assert.equal(stage.client.allocation?.dontFragment, false)
    stage.send(peer(), Buffer.from('x'))
    assert.ok(!stage.sent(0).has(Attribute.DontFragment))
  })

  test('405: without mobility then', () => {
    const stage = new Stage({
      request: { mobility: true },
      script: (request, answer) =>
        request.has(Attribute.MobilityTicket) ? answer.error(ErrorCode.MobilityForbidden) : answer.usual(),
    }).allocated()
    assert.equal(stage.client.allocation?.mobility, false)
  })

  test('437: what an earlier run left is deleted, once', () => {
    let left = true
    const stage = new Stage({
      script: (request, answer) => {
        if (request.method === Method.Refresh) left = request.uint32(Attribute.Lifetime) !== 0
        return request.method === Method.Allocate && left
          ? answer.error(ErrorCode.AllocationMismatch)
          : answer.usual()
      },
    }).allocated()
    assert.deepEqual(stage.types, ['allocated'])

    const stubborn = new Stage({
      script: refusing(Method.Allocate, ErrorCode.AllocationMismatch),
    }).allocated()
    assert.deepEqual(stubborn.types, ['failed'])
    assert.equal(stubborn.methods(Method.Allocate).length, 2)
  })

  test('300 with proof: the allocation is on the alternate, with everything that follows', () => {
    const alternate = { address: '192.0.2.7', port: 3478 }
    const stage = new Stage({
      credentials: true,
      script: (_request, answer, to) =>
        to.address === alternate.address
          ? answer.usual()
          : answer.error(300, (builder) => builder.address(Attribute.AlternateServer, alternate)),
    }).allocated()
    assert.deepEqual(stage.types, ['allocated'])
    assert.deepEqual(stage.client.allocation?.server, alternate)
    for (let n = 0; n < 12; n++) stage.send(peer(), Uint8Array.of(n))
    const number = channelOf(stage.output.at(-1)!)
    const frame = Buffer.of(number >> 8, number & 255, 0, 1, 7)
    assert.equal(stage.receive(frame), false, 'the first server has nothing to say any more')
    assert.ok(stage.receive(frame, { remote: alternate }))
  })

  test('300 without proof, which anybody can send, is not followed', () => {
    const alternate = { address: '203.0.113.66', port: 3478 }
    const stage = new Stage({
      script: (_request, answer) =>
        answer.error(300, (builder) => builder.address(Attribute.AlternateServer, alternate)),
    }).allocated()
    assert.deepEqual(stage.types, ['failed'])
  })

  test('an answer without a relayed address, or of a family not asked for: deleted and failed', () => {
    for (const address of [undefined, { address: '2001:db8::1', port: 5 }]) {
      const stage = new Stage({
        script: (request, answer) =>
          request.method !== Method.Allocate
            ? answer.usual()
            : answer.ok((builder) => {
                builder.uint32(Attribute.Lifetime, 600)
                if (address !== undefined) builder.xorAddress(Attribute.XorRelayedAddress, address)
              }),
      }).allocated()
      assert.deepEqual(stage.types, ['failed'])
      assert.equal(stage.methods(Method.Refresh)[0]?.uint32(Attribute.Lifetime), 0)
    }
  })

  test('a lifetime of a second, from a careless or hostile server, makes no storm', () => {
    const stage = new Stage({
      script: (_request, answer) =>
        answer.ok((builder) =>
          builder.xorAddress(Attribute.XorRelayedAddress, RELAYED).uint32(Attribute.Lifetime, 1),
        ),
    }).allocated()
    stage.run(3_600)
    assert.ok(stage.requests.length < 1_000, `${stage.requests.length} requests in an hour`)
  })
})

describe('the life of an allocation', () => {
  test('given back at the end', () => {
    const stage = new Stage().allocated()
    stage.client.close(stage.now)
    stage.pump()
    assert.equal(stage.requests.at(-1)?.uint32(Attribute.Lifetime), 0)
    assert.deepEqual(stage.types, ['allocated', 'closed'])
    assert.equal(stage.client.pollTimeout(), undefined)
  })

  test('a server that does not answer the end is not waited for beyond 4 s', () => {
    const stage = new Stage().allocated()
    stage.script = () => undefined
    stage.client.close(stage.now)
    stage.run(4)
    assert.deepEqual(stage.types, ['allocated', 'closed'])
  })

  test('437 with proof to a refresh, a permission or a channel: another allocation at once', () => {
    for (const method of [Method.Refresh, Method.CreatePermission, Method.ChannelBind]) {
      const stage = new Stage().allocated()
      stage.script = (request, answer) => {
        if (request.method !== method) return answer.usual()
        stage.script = usual
        return answer.error(ErrorCode.AllocationMismatch)
      }
      for (let n = 0; n < 10; n++) stage.send(peer(), Buffer.from('x'))
      if (method === Method.Refresh) stage.client.recheck(stage.now)
      stage.pump()
      assert.deepEqual(stage.types, ['allocated', 'lost', 'renewed'], `method ${method}`)
    }
  })

  test('437 without proof: an Allocate request finds out, and a forger gains nothing', () => {
    for (const gone of [true, false]) {
      const stage = new Stage({ credentials: true }).allocated()
      stage.script = (request, answer) =>
        request.method === Method.Refresh
          ? answer.unsigned.error(ErrorCode.AllocationMismatch)
          : request.method === Method.Allocate && !gone
            ? answer.error(ErrorCode.AllocationMismatch)
            : answer.usual()
      stage.client.recheck(stage.now)
      stage.run(1)
      assert.deepEqual(stage.types, gone ? ['allocated', 'lost', 'renewed'] : ['allocated'])
    }
  })

  test('the stream ends: lost, and asked for again on the next one', () => {
    const stage = new Stage({ reliable: true }).allocated()
    stage.client.disconnected(stage.now)
    stage.pump()
    assert.deepEqual(stage.types, ['allocated', 'lost'])
    stage.client.connected(stage.now, SERVER)
    stage.pump()
    assert.deepEqual(stage.types, ['allocated', 'lost', 'renewed'])
  })

  test('the stream ends, with mobility: the allocation moves to the next one', () => {
    const ticket = Uint8Array.of(9, 9)
    const stage = new Stage({
      reliable: true,
      request: { mobility: true },
      script: (_request, answer) =>
        answer.ok((builder) =>
          builder
            .xorAddress(Attribute.XorRelayedAddress, RELAYED)
            .uint32(Attribute.Lifetime, 600)
            .bytes(Attribute.MobilityTicket, ticket),
        ),
    }).allocated()
    stage.client.disconnected(stage.now)
    stage.client.connected(stage.now, SERVER)
    stage.pump()
    assert.deepEqual(stage.types, ['allocated'])
    assert.deepEqual(stage.requests.at(-1)?.value(Attribute.MobilityTicket), ticket)
    assert.equal(stage.requests.at(-1)?.method, Method.Refresh)
  })
})

describe('permissions', () => {
  test('the very first datagram goes behind the request, some more wait for its answer', () => {
    const stage = new Stage().allocated()
    let answer: Uint8Array | undefined
    stage.script = (_request, answers) => {
      answer = answers.usual()
      return undefined
    }
    for (let n = 0; n < 20; n++) stage.send(peer(), Uint8Array.of(n))
    assert.equal(stage.output.length, 1)
    stage.script = usual
    stage.receive(answer!)
    assert.deepEqual(
      stage.output.map((_, n) => stage.sent(n).value(Attribute.Data)?.[0]),
      [0, 1, 2, 3, 4, 5, 6, 7, 8],
    )
    assert.deepEqual(stage.sent(0).xorAddress(Attribute.XorPeerAddress), peer())
    assert.deepEqual({ ...stage.client.counters }, { sent: 9, received: 0, dropped: 11 })
  })

  test('one that is refused among several does not take the others with it', () => {
    const stage = new Stage().allocated()
    const bad = peer(3).address
    stage.script = (request, answer) => {
      for (let at = request.first(); at !== -1; at = request.next(at)) {
        if (request.typeAt(at) !== Attribute.XorPeerAddress) continue
        if (request.xorAddressAt(at)?.address === bad) return answer.error(ErrorCode.Forbidden)
      }
      return answer.usual()
    }
    for (let n = 0; n < 6; n++) stage.client.permit(stage.now, peer(n).address)
    stage.pump()
    assert.deepEqual(
      stage.events
        .filter(({ type }) => type === 'refused')
        .map((event) => 'address' in event && event.address),
      [bad],
    )
    for (let n = 0; n < 6; n++) {
      stage.receive(stage.data(peer(n), (builder) => builder.bytes(Attribute.Data, Uint8Array.of(n))))
    }
    assert.deepEqual(
      stage.input.map(({ bytes }) => bytes[0]),
      [0, 1, 2, 4, 5],
    )
  })

  test('a peer of a family without relayed address is never asked for (RFC 8656 §10.1, §12.1)', () => {
    const six = { address: '2001:db8::1', port: 4000 }
    const stage = new Stage().allocated()
    stage.client.permit(stage.now, six.address)
    for (let n = 0; n < 10; n++) stage.send(six, Buffer.from('x'))
    stage.run(1)
    assert.equal(stage.methods(Method.CreatePermission).length, 0)
    assert.equal(stage.methods(Method.ChannelBind).length, 0)
    assert.equal(stage.output.length, 0)
    assert.ok(stage.types.includes('refused'))
    stage.send(peer(), Buffer.from('x'))
    stage.run(1)
    assert.equal(stage.methods(Method.CreatePermission).length, 1)
  })

  test('443 and 403: the peer is left alone for a minute, then asked for again', () => {
    for (const code of [ErrorCode.PeerAddressFamilyMismatch, ErrorCode.Forbidden]) {
      const stage = new Stage({ script: refusing(Method.CreatePermission, code) }).allocated()
      for (let second = 0; second < 90; second++) {
        stage.send(peer(), Buffer.from('x'))
        stage.run(1)
      }
      assert.equal(stage.methods(Method.CreatePermission).length, 2)
      // One behind each request, before it was refused.
      assert.equal(stage.output.length, 2)
      assert.ok(stage.types.includes('refused'))
    }
  })

  test('those in use and those asked for are refreshed in time, the others run out', () => {
    const stage = new Stage().allocated()
    stage.client.permit(stage.now, peer(0).address)
    stage.send(peer(1), Buffer.from('once'))
    const granted = new Map<string, number>()
    stage.script = (request, answer) => {
      if (request.method === Method.CreatePermission) {
        for (let at = request.first(); at !== -1; at = request.next(at)) {
          const address =
            request.typeAt(at) === Attribute.XorPeerAddress ? request.xorAddressAt(at) : undefined
          if (address !== undefined) granted.set(address.address, stage.now)
        }
      }
      return answer.usual()
    }
    for (let minute = 0; minute < 60; minute++) {
      stage.run(60)
      if (minute >= 4) assert.ok(stage.now - granted.get(peer(0).address)! < 300 * SECOND)
    }
    assert.ok(stage.now - (granted.get(peer(1).address) ?? 0) > 3_000 * SECOND)
  })

  test('bounded: a stranger’s addresses and ports take no more than their room', () => {
    const stage = new Stage().allocated()
    for (let n = 0; n < 300; n++) {
      const there = stage.client.permit(stage.now, `10.0.${n >> 8}.${n & 255}`)
      assert.equal(there, n < 256)
    }
    stage.pump()
    for (let port = 1; port < 20_000; port++) {
      const from = { address: '10.0.0.1', port }
      stage.receive(stage.data(from, (builder) => builder.bytes(Attribute.Data, Uint8Array.of(1))))
    }
    assert.equal(stage.input.length, 19_999)
    const paths = new Set(stage.input.map(({ path }) => path))
    assert.equal(paths.size, 19_999)
  })
})

describe('channels', () => {
  test('after some datagrams; never a number that looks like a uTP SYN; 4-byte header and nothing else', () => {
    const stage = new Stage().allocated()
    const numbers = new Set<number>()
    for (let n = 0; n < 500; n++) {
      for (let times = 0; times < 12; times++) stage.send(peer(n), Uint8Array.of(n))
      const last = stage.output.at(-1)!
      assert.deepEqual(last.subarray(2), Buffer.of(0, 1, n & 255))
      numbers.add(channelOf(last))
    }
    assert.equal(numbers.size, 500)
    for (const number of numbers) {
      assert.ok(number >= 0x4000 && number <= 0x4fff && number >>> 8 !== 0x41, number.toString(16))
    }
  })

  test('what comes on a channel comes from its peer, by the path that sends there', () => {
    const stage = new Stage().allocated()
    for (let n = 0; n < 12; n++) stage.send(peer(), Uint8Array.of(n))
    const number = channelOf(stage.output.at(-1)!)
    assert.ok(stage.receive(Buffer.of(number >> 8, number & 255, 0, 2, 7, 8, 0, 0)), 'with padding')
    const [came] = stage.input
    assert.ok(came)
    assert.equal(came.path, stage.client.path(peer()))
    assert.deepEqual(came.bytes, Buffer.of(7, 8))
    assert.ok(
      stage.receive(Buffer.of(number >> 8, number & 255, 0, 9, 7, 8)),
      'ours, and dropped: its length lies',
    )
    assert.equal(stage.input.length, 1)
    assert.equal(stage.receive(Buffer.of(0x4f, 0xff, 0, 1, 7)), false, 'nobody’s channel')
    assert.equal(stage.receive(Buffer.of(0x41, 0, 0, 1, 7)), false)
  })

  test('any path to the same place through the same carrier is the same peer’s', () => {
    const stage = new Stage().allocated()
    for (let n = 0; n < 12; n++) stage.send(peer(), Uint8Array.of(n))
    const { via } = stage.client.path(peer())
    assert.ok(via)
    const path = { remote: peer(), via }
    for (let n = 0; n < 3; n++) via.send(stage.now, { path, data: Uint8Array.of(9) })
    assert.deepEqual(
      stage.output.slice(-4).map((bytes) => channelOf(bytes)),
      new Array(4).fill(channelOf(stage.output.at(-1)!)),
    )
  })

  test('on a stream the frames are padded with zeros', () => {
    const stage = new Stage({ reliable: true }).allocated()
    for (let n = 0; n < 12; n++) stage.send(peer(), Uint8Array.of(7))
    assert.deepEqual(stage.output.at(-1)!.subarray(2), Buffer.of(0, 1, 7, 0, 0, 0))
  })

  test('refused: Send indications go on', () => {
    const stage = new Stage({
      script: refusing(Method.ChannelBind, ErrorCode.InsufficientCapacity),
    }).allocated()
    for (let n = 0; n < 40; n++) stage.send(peer(), Uint8Array.of(n))
    assert.equal(stage.output.length, 40)
    assert.ok(stage.output.every((bytes) => bytes[0] === 0))
  })

  test('400 to the refresh of a channel that is there: the two disagree, and start afresh', () => {
    const stage = new Stage().allocated()
    for (let n = 0; n < 12; n++) stage.send(peer(), Uint8Array.of(n))
    stage.script = refusing(Method.ChannelBind, ErrorCode.BadRequest)
    for (let second = 0; second < 300; second++) {
      stage.send(peer(), Uint8Array.of(1))
      stage.run(1)
    }
    assert.deepEqual(stage.types.slice(0, 3), ['allocated', 'lost', 'renewed'])
  })

  test('unused for a while, it lapses; used again, it is the same number', () => {
    const stage = new Stage().allocated()
    for (let n = 0; n < 12; n++) stage.send(peer(), Uint8Array.of(n))
    const before = channelOf(stage.output.at(-1)!)
    stage.run(700)
    stage.send(peer(), Uint8Array.of(1))
    assert.equal(stage.output.at(-1)?.[0], 0, 'a Send indication again')
    for (let n = 0; n < 12; n++) stage.send(peer(), Uint8Array.of(n))
    assert.equal(channelOf(stage.output.at(-1)!), before)
  })
})

describe('what else a server says', () => {
  test('ICMP errors are told, of permitted peers only', () => {
    const stage = new Stage().allocated()
    const icmp = Uint8Array.of(0, 0, (3 << 1) | 0, 4, 0, 0, 5, 0)
    const message = stage.data(peer(), (builder) => builder.bytes(Attribute.Icmp, icmp))
    assert.ok(stage.receive(message))
    assert.ok(!stage.types.includes('icmp'))
    stage.client.permit(stage.now, peer().address)
    stage.pump()
    stage.receive(message)
    const event = stage.events.at(-1)
    assert.ok(event?.type === 'icmp')
    assert.deepEqual(event.icmp, { type: 3, code: 4, data: 1280 })
    assert.deepEqual(event.peer, peer())
  })

  test('RFC 6062: Connect, one per peer, and 447 rests for 10 s', () => {
    const stage = new Stage({
      reliable: true,
      request: {
        protocol: 'tcp',
        dontFragment: true,
        evenPort: 'reserve',
        reservationToken: Buffer.alloc(8),
      },
      script: (request, answer) =>
        request.method !== Method.Connect
          ? answer.usual()
          : request.xorAddress(Attribute.XorPeerAddress)?.port === 1
            ? answer.error(ErrorCode.ConnectionTimeoutOrFailure)
            : answer.ok((builder) => builder.uint32(Attribute.ConnectionId, 77)),
    }).allocated()
    assert.equal(stage.requests[0]?.uint8(Attribute.RequestedTransport), 6)
    for (const forbidden of [Attribute.DontFragment, Attribute.EvenPort, Attribute.ReservationToken]) {
      assert.equal(stage.requests[0].has(forbidden), false)
    }
    stage.client.connect(stage.now, { ...peer(), port: 2 })
    stage.pump()
    assert.deepEqual(stage.events.at(-1), { type: 'connected', peer: { ...peer(), port: 2 }, id: 77 })
    const dead = { ...peer(), port: 1 }
    const tried = (): number => stage.methods(Method.Connect).length
    for (const [seconds, asked] of [
      [0, 2],
      [5, 2],
      [6, 3],
    ] as const) {
      stage.run(seconds)
      stage.client.connect(stage.now, dead)
      stage.pump()
      assert.equal(stage.types.at(-1), 'unconnected')
      assert.equal(tried(), asked)
    }
    stage.script = () => undefined
    stage.client.connect(stage.now, peer())
    assert.throws(() => stage.client.connect(stage.now, peer()), { code: 'ERR_NATWORK_TURN_BUSY' })
  })
})
