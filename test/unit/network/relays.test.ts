// 1 s. Allocations that several links share: what a link let in is closed again when it ends, unless another one needs it.
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import type { SocketAddress } from '../../../src/core/index.ts'
import type { LocalCandidate } from '../../../src/ice/index.ts'
import type { ControlChannel } from '../../../src/network/control.ts'
import { Relays, type RelaySource, type RelayUser } from '../../../src/network/relays.ts'
import type { Session } from '../../../src/network/session.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { CallbackUsers, MAX_PERMISSIONS, RelayHost } from '../../../src/turn/index.ts'

/** A relay on loopback, a node's port, and its relays; `seen` counts peers for whom there was no room, and questions for credentials. */
async function open(t: TestContext, lifetime = 3_600, challengeFor?: SocketAddress | 'us') {
  const [server, own] = await Promise.all([1, 2].map(() => UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })))
  const seen = { refused: 0, asked: 0, usernames: new Set<string>() }
  const host = new RelayHost({
    users: new CallbackUsers(
      'natwork',
      (username) => {
        const isGood = Number(username.split(':')[0]) > Date.now()
        if (isGood) seen.usernames.add(username)
        return isGood ? 'password' : undefined
      },
      (username) => username.split(':')[1]!,
    ),
    addresses: [{ host: '127.0.0.1' }],
    peers: { allow: ['0.0.0.0/0'] },
    limits: { permissions: 4 * MAX_PERMISSIONS },
  })
  host.attach(server!, 'rfc8656')
  const logger = {
    debug: (text: string) => {
      if (text.includes('no more peers')) seen.refused++
    },
    info: () => undefined,
    warn: () => undefined,
    error: () => undefined,
  }
  const relays = new Relays({ utp: { endpoint: own }, context: { logger } } as unknown as Session)
  t.after(async () => {
    await relays.stop()
    host.close()
    await Promise.all([own!.close(), server!.close()])
  })
  const sourceOf = (peer: string): RelaySource => ({
    channel: {
      peer,
      ask: () => {
        seen.asked++
        const username = `${Date.now() + lifetime * 1_000}:node`
        const at = challengeFor === 'us' ? own!.address : challengeFor
        const challenge = at && { challenge: Buffer.from(host.challenge(at)).toString('base64') }
        return Promise.resolve({ relay: { username, password: 'password', lifetime, ...challenge } })
      },
    } as unknown as ControlChannel,
    address: server!.address,
    tls: undefined,
  })
  // Two helpers by their names; the relay is the same.
  const [source, second] = [sourceOf('helper'), sourceOf('second helper')]
  return {
    seen,
    errors: host.relay.counters.errors,
    prepare: () => relays.prepare([source]),
    borrow: (user: RelayUser) => relays.borrow([source], user),
    borrowUntil: (isFound: () => boolean, user: RelayUser) =>
      relays.borrowUntil(isFound, [source, second], user, 10),
  }
}

class User implements RelayUser {
  readonly #end = new AbortController()
  readonly candidates: LocalCandidate[] = []
  readonly ended = this.#end.signal

  found(candidate: LocalCandidate): void {
    this.candidates.push(candidate)
  }

  lost(): void {
    assert.fail('the relay is there all the time')
  }

  permit(peers: readonly string[]): void {
    for (const peer of peers) this.candidates[0]!.permit!(peer)
  }

  /** The same, once the relay has answered what was asked before: nothing under way is given up for another. */
  async permitInTime(peers: readonly string[], seen: { refused: number }): Promise<void> {
    for (const peer of peers) {
      do {
        seen.refused = 0
        this.permit([peer])
        if (seen.refused > 0) await new Promise(setImmediate)
      } while (seen.refused > 0)
    }
  }

  end(): void {
    this.#end.abort()
  }
}

const peers = (network: number, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `10.${network}.1.${n}`)

test('what a link let in makes room for the next one when it ends', { timeout: 10_000 }, async (t) => {
  const { seen, borrow } = await open(t)
  for (const network of [1, 2, 3]) {
    const user = new User()
    await borrow(user)
    await user.permitInTime(peers(network, MAX_PERMISSIONS), seen)
    user.permit(['10.9.9.9'])
    assert.equal(seen.refused, 1)
    user.end()
  }
})

test('a peer that two links let in stays until both have ended', { timeout: 10_000 }, async (t) => {
  const { seen, borrow } = await open(t)
  const [first, second, third] = [new User(), new User(), new User()]
  await Promise.all([first, second, third].map(borrow))
  first.permit(['10.1.0.1'])
  second.permit(['10.1.0.1', '10.1.0.1'])
  first.end()
  await third.permitInTime(peers(2, MAX_PERMISSIONS - 1), seen)
  third.permit(['10.3.0.1'])
  assert.equal(seen.refused, 1, 'the shared one has its place still')
  second.end()
  await third.permitInTime(['10.3.0.2'], seen)
})

test('a user that asks again gets nothing twice', async (t) => {
  const { borrow } = await open(t)
  const user = new User()
  await Promise.all([borrow(user), borrow(user)])
  await borrow(user)
  assert.equal(user.candidates.length, 1)
})

test('credentials that are being asked for are not asked for again', async (t) => {
  const { seen, prepare, borrow } = await open(t)
  prepare()
  prepare()
  await borrow(new User())
  assert.equal(seen.asked, 1)
})

test('a relay that leads nowhere is not the last one: the next helper is asked, unless a path was found meanwhile', async (t) => {
  const { borrowUntil } = await open(t)
  const [lost, content, gone] = [new User(), new User(), new User()]
  await borrowUntil(() => false, lost)
  assert.equal(lost.candidates.length, 2)
  await borrowUntil(() => true, content)
  assert.equal(content.candidates.length, 1)
  await borrowUntil(() => {
    gone.end()
    return false
  }, gone)
  assert.equal(gone.candidates.length, 1)
})

test('who knows the challenge with the credentials is not asked again; for another address it is as stale as an old one', async (t) => {
  const allocate = async (challengeFor?: SocketAddress | 'us'): Promise<number[]> => {
    const { errors, borrow } = await open(t, 3_600, challengeFor)
    const user = new User()
    await borrow(user)
    assert.equal(user.candidates.length, 1)
    return [...errors.keys()]
  }
  assert.deepEqual(await allocate(), [401])
  assert.deepEqual(await allocate('us'), [])
  assert.deepEqual(await allocate({ address: '192.0.2.1', port: 1315 }), [438])
})

test('an allocation goes on with newer credentials than it was made with', { timeout: 10_000 }, async (t) => {
  const { seen, borrow } = await open(t, 1)
  const user = new User()
  await borrow(user)
  for (let n = 1; seen.usernames.size < 4; n++) {
    user.permit([`10.1.1.${n % 256}`])
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
})
