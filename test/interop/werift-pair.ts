// `werift-pair.ts udp|tcp PORT`: two peers of werift, which know each other's relay candidates only, exchange a message through
// the TURN server at that port of 127.0.0.1. A process of its own: werift's timers outlive its connections by 8 minutes.
import assert from 'node:assert/strict'
import { RTCPeerConnection } from 'werift'

const [transport = 'udp', port = ''] = process.argv.slice(2)
const open = (): RTCPeerConnection =>
  new RTCPeerConnection({
    iceServers: [
      { urls: `turn:127.0.0.1:${port}?transport=${transport}`, username: 'user', credential: 'pass' },
    ],
    iceTransportPolicy: 'relay',
    forceTurnTCP: transport === 'tcp',
  })
const [one, two] = [open(), open()]
two.onDataChannel.subscribe((channel) => {
  channel.onMessage.subscribe((message) => {
    channel.send(`${message.toString()}, through the relay`)
  })
})
const channel = one.createDataChannel('test')
channel.onMessage.subscribe((message) => {
  process.stdout.write(message.toString(), () => process.exit(0))
})
channel.stateChanged.subscribe((state) => {
  if (state === 'open') channel.send('hello')
})
// Candidates stand in the descriptions: werift has gathered when it is done, and names its hosts too.
await one.setLocalDescription(await one.createOffer())
await two.setRemoteDescription(relayOnly(one.localDescription))
await two.setLocalDescription(await two.createAnswer())
await one.setRemoteDescription(relayOnly(two.localDescription))
setTimeout(() => process.exit(1), 30_000)

function relayOnly(description: { type: 'offer' | 'answer'; sdp: string } | undefined): {
  type: 'offer' | 'answer'
  sdp: string
} {
  assert.ok(description)
  const { type, sdp } = description
  const relayed = sdp.replace(/^a=candidate:(?!.* typ relay).*\r?\n/gm, '')
  assert.match(relayed, /^a=candidate:.* typ relay/m)
  return { type, sdp: relayed }
}
