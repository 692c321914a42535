// 5 s. ICE against other implementations, in both roles: werift's in TypeScript, and libjuice's in C (in node-datachannel).
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { EventEmitter } from 'node:events'
import { after, test } from 'node:test'
import { cleanup, PeerConnection } from 'node-datachannel'
import { Candidate, Connection } from 'werift'
import {
  fromSdp,
  IceAgent,
  toSdp,
  type IceCandidate,
  type IceEvent,
  type IceSession,
} from '../../src/ice/index.ts'
import { UdpEndpoint } from '../../src/socket/index.ts'

interface Ours {
  readonly endpoint: UdpEndpoint
  readonly agent: IceAgent
  readonly session: IceSession
  /** Resolves with the first path; and, where we control, when the peer has agreed to one. */
  readonly path: Promise<unknown>
  close(): Promise<void>
}

async function start(controlling: boolean): Promise<Ours> {
  const endpoint = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  const emitter = new EventEmitter()
  const onEvent = (event: IceEvent): void => {
    emitter.emit(event.type === 'trace' ? event.entry.what : event.type)
  }
  const agent = new IceAgent(endpoint, { onEvent })
  const session = agent.open({ controlling, local: { candidates: agent.hostCandidates() } })
  const path = Promise.all([once(emitter, 'path'), controlling && once(emitter, 'nominated')])
  const close = async (): Promise<void> => {
    await agent.close()
    await endpoint.close()
  }
  return { endpoint, agent, session, path, close }
}

// Its threads would keep the process for a quarter of a minute.
after(() => {
  cleanup()
})

for (const controlling of [true, false]) {
  const role = controlling ? 'controlling' : 'controlled'

  test(`werift, we are ${role}: a path is nominated`, { timeout: 30_000 }, async () => {
    const ours = await start(controlling)
    const theirs = new Connection(!controlling, { useIpv6: false, additionalHostAddresses: ['127.0.0.1'] })
    delete theirs.stunServer // a public one by default
    try {
      await theirs.gatherCandidates()
      const { ufrag, pwd } = ours.session.parameters
      theirs.setRemoteParams({ iceLite: false, usernameFragment: ufrag, password: pwd })
      for (const one of ours.session.localCandidates) {
        await theirs.addRemoteCandidate(Candidate.fromSdp(toSdp(one).replace('candidate:', '')))
      }
      await theirs.addRemoteCandidate(undefined)
      const candidates = theirs.localCandidates.map((one) => fromSdp(`candidate:${one.toSdp()}`))
      ours.session.setRemote(ours.endpoint.now(), {
        ufrag: theirs.localUsername,
        pwd: theirs.localPassword,
        candidates: candidates.filter((one): one is IceCandidate => one?.address === '127.0.0.1'),
        complete: true,
      })
      ours.agent.wake()
      await Promise.all([theirs.connect(), ours.path])
      const { nominated } = theirs
      assert.ok(nominated !== undefined)
      assert.equal(nominated.remoteCandidate.port, ours.endpoint.address.port)
      assert.equal(ours.session.controlling, controlling)
      const path = ours.session.path?.path
      assert.ok(path !== undefined)
      assert.ok(theirs.localCandidates.some(({ port }) => port === path.remote.port))
    } finally {
      await theirs.close()
      await ours.close()
    }
  })

  test(`libjuice, we are ${role}: a path is nominated`, { timeout: 30_000 }, async () => {
    const ours = await start(controlling)
    const emitter = new EventEmitter()
    const theirs = new PeerConnection('libjuice', { iceServers: [], bindAddress: '127.0.0.1' })
    try {
      const candidates: IceCandidate[] = []
      theirs.onIceStateChange((state) => emitter.emit(state))
      theirs.onLocalCandidate((line) => {
        const one = fromSdp(line)
        if (one !== undefined) candidates.push(one)
      })
      theirs.onGatheringStateChange((state) => emitter.emit(`gathering ${state}`))
      const gathered = once(emitter, 'gathering complete')
      const connected = once(emitter, 'completed')
      let text = ''
      theirs.onLocalDescription((sdp) => (text = sdp))
      if (controlling) {
        theirs.setRemoteDescription(sdpOf(ours.session, 'actpass'), 'offer')
      } else {
        theirs.createDataChannel('ice')
      }
      await gathered
      text = theirs.localDescription()?.sdp ?? text
      const named = [...text.matchAll(/^a=(candidate:.*)$/gm)].map(([, line = '']) => fromSdp(line))
      candidates.push(...named.filter((one) => one !== undefined))
      if (!controlling) theirs.setRemoteDescription(sdpOf(ours.session, 'active'), 'answer')
      ours.session.setRemote(ours.endpoint.now(), {
        ufrag: /^a=ice-ufrag:(\S+)/m.exec(text)?.[1] ?? '',
        pwd: /^a=ice-pwd:(\S+)/m.exec(text)?.[1] ?? '',
        candidates,
        complete: true,
      })
      ours.agent.wake()
      await Promise.all([connected, ours.path])
      assert.equal(theirs.getSelectedCandidatePair()?.remote.port, ours.endpoint.address.port)
      assert.equal(ours.session.controlling, controlling)
    } finally {
      theirs.close()
      await ours.close()
    }
  })
}

/** As much of SDP as the other needs; nobody comes to DTLS. */
function sdpOf(session: IceSession, setup: 'actpass' | 'active'): string {
  const { ufrag, pwd } = session.parameters
  return [
    'v=0',
    'o=- 1 1 IN IP4 127.0.0.1',
    's=-',
    't=0 0',
    'a=group:BUNDLE 0',
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
    'c=IN IP4 0.0.0.0',
    'a=mid:0',
    `a=setup:${setup}`,
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${pwd}`,
    `a=fingerprint:sha-256 ${new Array<string>(32).fill('AA').join(':')}`,
    'a=sctp-port:5000',
    ...session.localCandidates.map((one) => `a=${toSdp(one)}`),
    'a=end-of-candidates',
    '',
  ].join('\r\n')
}
