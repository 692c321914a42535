// What the benchmark uses of @hyperswarm/secret-stream, which ships no types.
declare module '@hyperswarm/secret-stream' {
  import type { Duplex } from 'node:stream'

  export default class SecretStream extends Duplex {
    constructor(isInitiator: boolean, rawStream: Duplex)
  }
}
