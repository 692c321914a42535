import type { Command } from 'commander'
import { keyPath, makePrivateFolder } from '../folders.ts'
import { readSettings, type Shell } from '../shell.ts'

/** `natwork id`: the id of this node. */
export function registerId(program: Command, shell: Shell): Command {
  return program
    .command('id')
    .description('print the id of this node, to be allowed by others; makes the key on first use')
    .action(async (_options: object, command: Command) => {
      const { folders } = readSettings(shell, command)
      const { loadOrCreatePrivateKey } = await import('../../network/identity.ts')
      const { nodeIdOf } = await import('../../network/node-id.ts')
      makePrivateFolder(folders.state)
      const key = keyPath(folders)
      const { createPublicKey } = await import('node:crypto')
      const id = nodeIdOf(createPublicKey(await loadOrCreatePrivateKey(key)))
      shell.output.result({ id, key }, () => id)
    })
}
