import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { UsageError } from '../../core/index.ts'
import { parsePeer } from '../goal.ts'
import { openReach } from '../reach.ts'
import { exhaustiveOption, mdnsOption, readSettings, type Shell } from '../shell.ts'

/** Milliseconds between two pings. */
const INTERVAL = 1_000

/** `natwork ping`: can a node be reached, and how fast does it answer? */
export function registerPing(program: Command, shell: Shell): Command {
  return program
    .command('ping')
    .description('connect to a node and measure how long that and one round trip take')
    .argument('<id>', 'the id of the node, or its name under `peers` in the configuration')
    .option('-c, --count <n>', 'how often', '3')
    .option(...exhaustiveOption)
    .option(...mdnsOption)
    .action(async (text: string, { count }: { count: string }, command: Command) => {
      const { output, signal } = shell
      const settings = readSettings(shell, command)
      const peer = parsePeer(text, settings.config)
      if (!/^[1-9]\d{0,8}$/.test(count)) {
        throw new UsageError(
          'ERR_NATWORK_ARGUMENT',
          `--count: "${count}" is no number of pings: write 1 or more`,
        )
      }
      const reach = await openReach(settings, signal)
      try {
        for (let left = Number(count); left > 0; left--) {
          const pong = await reach.ping(peer, signal)
          output.result(
            pong,
            (style) =>
              `${style.green('●')} ${pong.remote} (${pong.path}): round trip ${style.bold(ms(pong.roundTrip))}, connected in ${ms(pong.connect)}`,
          )
          if (left > 1) await sleep(INTERVAL, undefined, { signal })
        }
      } catch (error) {
        // The timer's own error says only that it was aborted.
        signal.throwIfAborted()
        throw error
      } finally {
        await reach.close()
      }
    })
}

const ms = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)} ms`
