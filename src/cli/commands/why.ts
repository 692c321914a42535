import type { Command } from 'commander'
import { parsePeer } from '../goal.ts'
import { table } from '../output.ts'
import { openReach } from '../reach.ts'
import { exhaustiveOption, mdnsOption, readSettings, type Shell } from '../shell.ts'

/** `natwork why`: why is a node reached the way it is? */
export function registerWhy(program: Command, shell: Shell): Command {
  return program
    .command('why')
    .description('connect to a node, and say why the connection is direct, relayed or impossible')
    .argument('<id>', 'the id of the node, or its name under `peers` in the configuration')
    .option('--trace', 'print each step first, as JSON, one a line')
    .option(...exhaustiveOption)
    .option(...mdnsOption)
    .action(async (text: string, { trace: isTraced = false }: { trace?: boolean }, command: Command) => {
      const { output, signal, stdout } = shell
      const settings = readSettings(shell, command)
      const reach = await openReach(settings, signal)
      try {
        const { trace, ...why } = await reach.why(parsePeer(text, settings.config), signal)
        if (isTraced) for (const step of trace) stdout.write(`${JSON.stringify(step)}\n`)
        output.result(why, (style) => {
          const dot = why.outcome === 'none' ? style.red('●') : style.green('●')
          const tried = why.pairs.map(({ local, remote, rtt, words }) => [
            local,
            remote,
            rtt === undefined ? '' : `${rtt.toFixed(1)} ms`,
            words,
          ])
          const heading = ['FROM', 'TO', 'ROUND TRIP', 'WHAT BECAME OF IT']
          return [
            `${dot} ${style.bold(why.outcome === 'none' ? 'no path' : why.outcome)}: ${why.sentence}`,
            ...(tried.length > 0 ? ['', table(style, [heading, ...tried])] : []),
          ].join('\n')
        })
      } finally {
        await reach.close()
      }
    })
}
