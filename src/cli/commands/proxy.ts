import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import type { Command } from 'commander'
import { systemError } from '../errors.ts'
import { parseHostName } from '../goal.ts'
import { parseListenAddress, writeHostPort, type HostPort } from '../names.ts'
import { createProxyServer } from '../proxy/server.ts'
import { openReach } from '../reach.ts'
import { exhaustiveOption, mdnsOption, readSettings, stopped, untilStopped, type Shell } from '../shell.ts'

/** `natwork proxy`: every service of every node by name, for programs that speak to a proxy. */
export function registerProxy(program: Command, shell: Shell): Command {
  return program
    .command('proxy')
    .description('run a local HTTP and SOCKS 5 proxy that reaches NAME.ID.natwork')
    .argument('[[bind:]port]', 'where to listen; 0 takes a free port', '1316')
    .option(...exhaustiveOption)
    .option(...mdnsOption)
    .addHelpText(
      'after',
      `
One port speaks both protocols. The port in a URL has no meaning: a service has a name instead.

Examples:
  curl -x socks5h://127.0.0.1:1316 http://web.ID.natwork/
  curl -x http://127.0.0.1:1316 http://web.ID.natwork/`,
    )
    .action(async (at: string, _options: object, command: Command) => {
      const address = parseListenAddress(at)
      const settings = readSettings(shell, command)
      const { output, signal } = shell
      await untilStopped(async () => {
        const reach = await openReach(settings, signal)
        try {
          const open = (host: string, gone: AbortSignal): ReturnType<typeof reach.open> =>
            reach.open(parseHostName(host, settings.config), gone)
          const server = createProxyServer(open, settings.logger)
          await listen(server, address)
          const { address: host, port } = server.address() as AddressInfo
          output.result({ event: 'listening', host, port }, (style) =>
            [
              `${style.green('●')} HTTP and SOCKS 5 proxy on ${style.bold(writeHostPort({ host, port }))}`,
              `  curl -x socks5h://${writeHostPort({ host, port })} http://NAME.ID.natwork/`,
              style.dim('  Ctrl-C ends it'),
            ].join('\n'),
          )
          await stopped(signal)
          const closed = new Promise((resolve) => server.close(resolve))
          server.dropClients()
          await closed
        } finally {
          await reach.close()
        }
      })
    })
}

async function listen(server: Server, { host, port }: HostPort): Promise<void> {
  try {
    await once(server.listen(port, host), 'listening')
  } catch (error) {
    throw systemError('ERR_NATWORK_BIND', `cannot listen on TCP ${writeHostPort({ host, port })}`, error)
  }
}
