import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { HostPort } from './names.ts'

export interface DemoPage {
  readonly address: HostPort
  close(): Promise<void>
}

/** A page to see natwork work: served over TCP on 127.0.0.1, on a free port, so that only a pipe shows it elsewhere. */
export async function startDemoPage(nodeId: string): Promise<DemoPage> {
  let visits = 0
  const server = createServer((request, response) => {
    if (request.url !== '/') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('There is only /\n')
      return
    }
    visits++
    response.writeHead(200, {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
    })
    response.end(page(nodeId, visits))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  return {
    address: { host: '127.0.0.1', port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const page = (nodeId: string, visits: number): string => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>natwork works</title>
<style>
  :root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d5dbe3; --paper: #f6f8fa; --card: #fff; --go: #0a7f4f }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8edf3; --soft: #9aa7b6; --line: #303a47; --paper: #12171e; --card: #1a212b; --go: #3ddc97 }
  }
  * { box-sizing: border-box }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px;
    font: 17px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
  main { max-width: 640px; width: 100%; padding: 40px; background: var(--card); border: 1px solid var(--line); border-radius: 16px }
  h1 { margin: 0 0 8px; font-size: 30px; line-height: 1.2 }
  h1 span { color: var(--go) }
  p { margin: 0 0 16px; color: var(--soft) }
  ol { list-style: none; display: flex; flex-wrap: wrap; gap: 8px; margin: 28px 0; padding: 0; font-size: 14px }
  li { flex: 1 1 96px; padding: 10px 8px; text-align: center; border: 1px solid var(--line); border-radius: 10px }
  li:nth-child(3) { color: var(--go); border-color: var(--go) }
  dl { margin: 0; font-size: 14px; color: var(--soft) }
  dd { margin: 0 0 8px; font-family: ui-monospace, monospace; color: var(--ink); overflow-wrap: anywhere }
</style>
<main>
  <h1><span>✓</span> This page came through natwork</h1>
  <p>It is served on the loopback address of another node. No port was opened for it: a pipe of natwork carried your
    request there and this answer back, encrypted from end to end.</p>
  <ol>
    <li>your browser</li><li>natwork forward</li><li>one UDP port, TLS 1.3 over uTP</li><li>natwork up</li><li>this page</li>
  </ol>
  <dl>
    <dt>node</dt><dd>${nodeId}</dd>
    <dt>visits since it started</dt><dd>${visits}</dd>
  </dl>
</main>
</html>
`
