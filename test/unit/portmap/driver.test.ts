import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import type { NetworkInterfaceInfo } from 'node:os'
import test from 'node:test'
import { fetchFromGateway } from '../../../src/portmap/driver/http.ts'
import {
  gateways,
  guessGateways,
  parseIpv6Routes,
  parseRoutes,
} from '../../../src/portmap/driver/gateways.ts'
import { PortMapper, PortmapUsageError } from '../../../src/portmap/index.ts'
import { uselessBecause } from '../../../src/portmap/mapping.ts'

const header = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT'

test('Linux’s IPv4 routing table: default routes, in the byte order of the machine', () => {
  const table = [
    header,
    'wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0',
    'eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0',
    'eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0',
    'tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000080\t0\t0\t0',
    'eth1\t00000000\t0103A8C0\t0002\t0\t0\t1\t00000000\t0\t0\t0',
    'garbage',
  ].join('\n')
  assert.deepEqual(parseRoutes(table, 'LE'), [
    { interface: 'wlan0', gateway: '192.168.1.1', metric: 600 },
    { interface: 'eth0', gateway: '192.168.2.1', metric: 100 },
  ])
  const big = `${header}\neth0\t00000000\tC0A80201\t0003\t0\t0\t0\t00000000\t0\t0\t0`
  assert.equal(parseRoutes(big, 'BE')[0]?.gateway, '192.168.2.1')
  const tunnel = `${header}\ntun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0`
  assert.deepEqual(parseRoutes(tunnel, 'LE'), [{ interface: 'tun0', gateway: undefined, metric: 0 }])
})

test('Linux’s IPv6 routing table: link-local routers get their zone', () => {
  const zeros = '0'.repeat(32)
  const route = (next: string, metric: string, flags: string, name: string): string =>
    `${zeros} 00 ${zeros} 00 ${next} ${metric} 00000001 00000000 ${flags}     ${name}`
  const table = [
    route('fe800000000000000000000000000001', '00000064', '00000003', 'eth0'),
    route('20010db8000000000000000000000001', '00000400', '00000003', 'eth1'),
    route(zeros, 'ffffffff', '00200200', 'lo'),
    `fe800000000000000000000000000000 40 ${zeros} 00 ${zeros} 00000100 00000001 00000000 00000001     eth0`,
  ].join('\n')
  assert.deepEqual(parseIpv6Routes(table), [
    { interface: 'eth0', gateway: 'fe80::1%eth0', metric: 100 },
    { interface: 'eth1', gateway: '2001:db8::1', metric: 1024 },
  ])
})

const v4 = (address: string, cidr: number, netmask: string): NetworkInterfaceInfo => ({
  address,
  netmask,
  family: 'IPv4',
  mac: '',
  internal: false,
  cidr: `${address}/${cidr}`,
})
const v6 = (address: string): NetworkInterfaceInfo => ({
  address,
  netmask: '',
  family: 'IPv6',
  mac: '',
  internal: false,
  cidr: `${address}/64`,
  scopeid: 0,
})

test('the preferred route decides, with our address in the router’s network', () => {
  const interfaces = {
    eth0: [v4('10.0.0.5', 8, '255.0.0.0'), v4('192.168.2.7', 24, '255.255.255.0'), v6('fe80::7')],
    eth1: [v6('fe80::8'), v6('fd00::8'), v6('2001:db8::8'), v6('2001:db8::9')],
  }
  const route = (gateway: string | undefined, name: string, metric: number) => ({
    gateway,
    interface: name,
    metric,
  })
  assert.deepEqual(
    gateways([route('10.1.1.1', 'eth1', 600), route('192.168.2.1', 'eth0', 100)], interfaces),
    [{ address: '192.168.2.1', own: '192.168.2.7', interface: 'eth0' }],
  )
  assert.deepEqual(gateways([route('fe80::1%eth1', 'eth1', 1)], interfaces), [
    { address: 'fe80::1%eth1', own: '2001:db8::8', interface: 'eth1' },
    { address: 'fe80::1%eth1', own: '2001:db8::9', interface: 'eth1' },
  ])
  // A tunnel that everything goes through: the home's router is not on the way.
  const tunnelled = [route(undefined, 'tun0', 1), route('192.168.2.1', 'eth0', 100)]
  assert.deepEqual(gateways(tunnelled, interfaces), [])
  assert.deepEqual(gateways([], interfaces), [])
})

test('where no table can be read, the first address of each private network is the guess', () => {
  const interfaces = {
    lo: [{ ...v4('127.0.0.1', 8, '255.0.0.0'), internal: true }],
    en0: [v4('192.168.178.44', 24, '255.255.255.0'), v6('2001:db8::9')],
    en1: [v4('172.20.10.4', 28, '255.255.255.240')],
    en2: [v4('198.51.100.4', 24, '255.255.255.0')],
    en3: [v4('10.0.0.1', 24, '255.255.255.0')],
  }
  assert.deepEqual(guessGateways(interfaces), [
    { address: '192.168.178.1', own: '192.168.178.44', interface: 'en0' },
    { address: '172.20.10.1', own: '172.20.10.4', interface: 'en1' },
  ])
})

test('a mapping nobody can reach says so', () => {
  assert.equal(uselessBecause('198.51.100.1', undefined), undefined)
  assert.equal(uselessBecause('198.51.100.1', '198.51.100.1'), undefined)
  assert.equal(uselessBecause('2001:db8::1', '198.51.100.1'), undefined)
  assert.match(uselessBecause('198.51.100.1', '203.0.113.1')!, /internet sees \(203\.0\.113\.1\)/)
  assert.match(uselessBecause('10.0.0.1', undefined)!, /another router/)
  assert.match(uselessBecause('100.64.3.1', '203.0.113.1')!, /carrier/)
  assert.match(uselessBecause('0.0.0.0', undefined)!, /not connected/)
  assert.match(uselessBecause('169.254.1.1', undefined)!, /not one of the internet/)
})

/** Serves on loopback for the length of `use`. */
async function served(listener: RequestListener, use: (url: URL) => Promise<void>): Promise<void> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await use(new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x`))
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

const never = new AbortController().signal
const get = (url: URL, signal = never) => fetchFromGateway({ id: 1, url, headers: {} }, '127.0.0.1', signal)

test('HTTP: a GET, and a POST with a length', async () => {
  await served(
    (request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const { method, headers } = request
        response.statusCode = 500
        response.end(
          JSON.stringify([
            method,
            headers['content-length'],
            headers['soapaction'],
            String(Buffer.concat(chunks)),
          ]),
        )
      })
    },
    async (url) => {
      assert.deepEqual(await get(url), { status: 500, body: '["GET",null,null,""]' })
      const post = { id: 2, url, headers: { soapaction: '"a#b"' }, body: '<ä/>' }
      const answer = await fetchFromGateway(post, '127.0.0.1', never)
      assert.equal(answer?.body, '["POST","5","\\"a#b\\"","<ä/>"]')
    },
  )
})

test('HTTP: redirects are not followed, long bodies not read, broken ones nothing', async () => {
  let asked = 0
  await served(
    (_, response) => {
      asked += 1
      response.writeHead(302, { location: '/other' }).end()
    },
    async (url) => {
      assert.deepEqual(await get(url), { status: 302, body: '' })
      assert.equal(asked, 1)
    },
  )
  await served(
    (_, response) => response.end(Buffer.alloc(128 * 1024 + 1)),
    async (url) => assert.ok((await get(url)) === undefined),
  )
  await served(
    (_, response) => {
      response.writeHead(200, { 'content-length': '100' })
      response.write('half')
      setImmediate(() => response.destroy())
    },
    async (url) => assert.equal(await get(url), undefined),
  )
  const server = createTcpServer((socket) => socket.resume().end('nonsense\r\n\r\n')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  assert.equal(await get(url), undefined)
  server.close()
  await once(server, 'close')
  assert.equal(await get(url), undefined, 'nobody listens')
})

test('HTTP: aborting ends a request that hangs', async () => {
  const controller = new AbortController()
  await served(
    () => controller.abort(),
    async (url) => assert.equal(await get(url, controller.signal), undefined),
  )
})

test('a mapper says what is wrong with its options, and stops where it has not begun', async () => {
  const mapper = new PortMapper()
  const wrong = { name: 'PortmapUsageError', code: 'ERR_NATWORK_PORTMAP_CONFIG' }
  for (const port of [0, 65536, 1.5, NaN]) await assert.rejects(mapper.start({ port }), wrong)
  await assert.rejects(mapper.start({ port: 1, host: 'localhost' }), wrong)
  const aborted = AbortSignal.abort(new Error('enough'))
  await assert.rejects(mapper.start({ port: 1, signal: aborted }), /enough/)
  mapper.recheck()
  mapper.observe(4, '203.0.113.1')
  assert.deepEqual(mapper.mappings, [])
  await mapper.stop()
})

test('on loopback alone there is no router to ask', async () => {
  const mapper = new PortMapper()
  const told = once(mapper, 'unavailable')
  await mapper.start({ port: 1315, host: '127.0.0.1' })
  const [{ family, reason, message }] = (await told) as [{ family: 4; reason: string; message: string }]
  assert.deepEqual([family, reason], [4, 'no-gateway'])
  assert.match(message, /no default route/)
  await assert.rejects(mapper.start({ port: 1315 }), PortmapUsageError)
  const stopping = [mapper.stop(), mapper.stop()]
  await Promise.all(stopping)
})
