// Does my UDP program get an answer through a symmetric NAT? Runs as root or not, and leaves nothing behind.
import { Lab } from '../src/lab/index.ts'

await using lab = await Lab.create({ sites: { home: 'symmetric' } })
const server = lab.exec('helper', 'node', [
  '-e',
  `
  const s = require('dgram').createSocket('udp4').bind(4000)
  s.on('listening', () => console.log('listening'))
  s.on('message', (text, from) => s.send(from.address + ':' + from.port, from.port, from.address))`,
])
await new Promise((resolve) => server.stdout.once('data', resolve))
const client = await lab.run('home1', 'node', [
  '-e',
  `
  const s = require('dgram').createSocket('udp4')
  s.on('message', (text) => { console.log('seen as ' + text); s.close() })
  s.send('who am I?', 4000, '${lab.address('helper')}')`,
])
console.log(client.stdout.trim())
console.log(`${(await lab.conntrack('home-home')).length} flow in the router's table`)
