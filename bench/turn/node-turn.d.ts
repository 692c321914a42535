// The package has no types: what server.ts uses of it.
declare module 'node-turn' {
  export default class Turn {
    constructor(options: object)
    start(): void
  }
}
