import type { Command } from 'commander'
import { ask } from '../control/client.ts'
import { controlPath } from '../folders.ts'
import { readSettings, type Shell } from '../shell.ts'

/** `natwork unexpose`: share a service no more. */
export function registerUnexpose(program: Command, shell: Shell): Command {
  return program
    .command('unexpose')
    .description('share a service no more, and end the pipes to it')
    .argument('<name>', 'the name of the service')
    .action(async (name: string, _options: object, command: Command) => {
      const { folders } = readSettings(shell, command)
      await ask(controlPath(folders), { request: 'unexpose', name }, shell.signal)
      shell.output.result(
        { name },
        (style) => `${style.green('●')} ${style.bold(name)} is not shared any more`,
      )
    })
}
