// The same message written and read by three codecs. Each `parse` ends with the mapped address in hand.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { StunBuilder } from '../../src/stun/codec/builder.ts'
import { Attribute, MessageClass, Method } from '../../src/stun/codec/registry.ts'
import { StunView } from '../../src/stun/codec/view.ts'

export interface Codec {
  readonly name: string
  readonly parse: () => void
  readonly encode: () => void
}

const require = createRequire(import.meta.url)
const id = Buffer.from('b7e7a701bc34d686fa87dfae', 'hex')
const mapped = { address: '192.0.2.1', port: 32853 }
const software = 'test vector'

const builder = new StunBuilder()
const write = (): Uint8Array =>
  builder
    .start(Method.Binding, MessageClass.Success, id)
    .xorAddress(Attribute.XorMappedAddress, mapped)
    .text(Attribute.Software, software)
    .fingerprint()
    .copy()
const message = Buffer.from(write())
const view = new StunView()

const natwork: Codec = {
  name: 'natwork',
  parse: () => {
    if (!view.open(message) || view.mappedAddress()?.port !== mapped.port) throw new Error('misread')
  },
  encode: write,
}

interface StunPackage {
  decode(bytes: Buffer): { getXorAddress(): { port: number } }
  encode(message: unknown): Buffer
  createMessage(
    type: number,
    id: Buffer,
  ): {
    addXorAddress(address: string, port: number): void
    addSoftware(text: string): void
    addFingerprint(): void
  }
  validateFingerprint(message: unknown): boolean
}

function stunPackage(): Codec {
  const stun = require('stun') as StunPackage
  return {
    name: 'stun',
    parse: () => {
      const read = stun.decode(message)
      if (!stun.validateFingerprint(read) || read.getXorAddress().port !== mapped.port)
        throw new Error('misread')
    },
    encode: () => {
      const made = stun.createMessage(0x0101, id)
      made.addXorAddress(mapped.address, mapped.port)
      made.addSoftware(software)
      made.addFingerprint()
      return stun.encode(made)
    },
  }
}

interface WeriftMessage {
  setAttribute(name: string, value: unknown): void
  getAttributeValue(name: string): [string, number]
  addFingerprint(): void
  readonly bytes: Buffer
}

/** werift does not export its codec: the file behind it is loaded by its path. */
function weriftPackage(): Codec {
  const folder = join(dirname(require.resolve('werift')), '../../ice/src/stun')
  const { Message, parseMessage } = require(join(folder, 'message.js')) as {
    Message: new (method: number, messageClass: number, id: Buffer) => WeriftMessage
    parseMessage: (bytes: Buffer) => WeriftMessage | undefined
  }
  return {
    name: 'werift',
    parse: () => {
      const read = parseMessage(message)
      if (read?.getAttributeValue('XOR-MAPPED-ADDRESS')[1] !== mapped.port) throw new Error('misread')
    },
    encode: () => {
      const made = new Message(0x0001, 0x0100, id)
      made.setAttribute('XOR-MAPPED-ADDRESS', [mapped.address, mapped.port])
      made.setAttribute('SOFTWARE', software)
      made.addFingerprint()
      return made.bytes
    },
  }
}

export const codecs: readonly Codec[] = [natwork, stunPackage(), weriftPackage()]

// A benchmark of different messages would compare nothing.
for (const { name, encode } of codecs) {
  const bytes = Buffer.from((encode as () => Uint8Array)())
  assert.equal(bytes.toString('hex'), message.toString('hex'), name)
}
