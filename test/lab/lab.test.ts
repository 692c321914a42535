// 3 s. What the lab promises about itself: set-up, programs, paths, and that nothing stays behind.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Lab, type Topology } from '../../src/lab/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const twoSites: Topology = { sites: { a: 'port-restricted', b: 'symmetric' } }

test('a program in a host: streams, exit status, signal', { skip }, async () => {
  await using lab = await Lab.create(twoSites)
  const echo = lab.exec('a1', 'cat')
  echo.stdin.end('through the namespace')
  let said = ''
  for await (const chunk of echo.stdout) said += String(chunk)
  assert.equal(said, 'through the namespace')

  const { code, stdout } = await lab.run('b1', 'sh', [
    '-c',
    'ip -4 -o addr show eth0 | cut -d" " -f7; exit 3',
  ])
  assert.equal(code, 3)
  assert.equal(stdout.trim(), `${lab.address('b1')}/24`)

  const sleeper = lab.exec('a1', 'sleep', ['1000'])
  sleeper.kill('SIGTERM')
  const [, signal] = (await once(sleeper, 'exit')) as [number | null, string | null]
  assert.equal(signal, 'SIGTERM')

  const missing = await lab.run('a1', 'no-such-program')
  assert.equal(missing.code, 127)
  assert.match(missing.stderr, /cannot run no-such-program: No such file or directory/)
})

test('the core delays, counts, and lets low-TTL packets die before the far router', { skip }, async () => {
  await using lab = await Lab.create({ sites: { a: 'none', b: 'none' } })
  const rtt = async (to: string): Promise<number> => {
    const { stdout } = await lab.run('a1', 'ping', ['-c', '2', '-i', '0.05', lab.address(to)])
    return Number(/ = ([\d.]+)\//.exec(stdout)?.[1])
  }
  // The emulator never delivers early; how late a busy machine makes it is not ours to say.
  assert.ok((await rtt('helper')) >= 20)
  assert.ok((await rtt('b1')) >= 40)
  assert.equal(await lab.packetsBetween('a1', 'b1'), 4)

  const { stdout } = await lab.run('a1', 'ping', ['-c', '1', '-W', '0.2', '-t', '8', lab.address('b1')])
  assert.match(stdout, /100% packet loss/)
  assert.equal(await lab.packetsBetween('a1', 'b1'), 4)
  const { drops } = await lab.counters()
  assert.deepEqual(
    drops.find(({ reason }) => reason === 'ttl'),
    { port: 'a1', way: 'up', reason: 'ttl', packets: 1 },
  )
  assert.match(
    (await lab.run('a1', 'ping', ['-c', '1', '-t', '9', lab.address('b1')])).stdout,
    / 0% packet loss/,
  )
})

test('path parameters change while the lab runs; loss is what was asked for', { skip }, async () => {
  await using lab = await Lab.create({ sites: { a: 'none' } })
  await lab.setPath('a1', { delay: 0, loss: 1 }, 'up')
  assert.match(
    (await lab.run('a1', 'ping', ['-c', '1', '-W', '0.1', lab.address('helper')])).stdout,
    /100% packet loss/,
  )
  await lab.setPath('a1', { loss: 0.5 }, 'up')
  const { stdout } = await lab.run('a1', 'ping', [
    '-c',
    '400',
    '-i',
    '0.002',
    '-q',
    '-W',
    '0.2',
    lab.address('helper'),
  ])
  const arrived = Number(/(\d+) received/.exec(stdout)?.[1])
  // Binomial(400, ½): outside of 140–260 once in 10⁹ runs.
  assert.ok(arrived > 140 && arrived < 260, `${arrived} of 400`)
})

test('a killed program leaves no process, namespace, mount or interface', { skip }, async () => {
  const before = await hostState()
  const owner = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      '--input-type=module',
      '-e',
      `
      import { Lab } from ${JSON.stringify(new URL('../../src/lab/index.ts', import.meta.url).href)}
      const lab = await Lab.create(${JSON.stringify(twoSites)}, { name: 'natwork-orphan-test' })
      lab.exec('a1', 'sleep', ['1000'])
      console.log(lab.pid)
      setInterval(() => {}, 1000)`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const [line] = (await once(owner.stdout, 'data')) as [Buffer]
  const pid = Number(line)
  assert.ok(pid > 0)
  owner.kill('SIGKILL')
  await gone(pid)
  assert.deepEqual(await hostState(), before)
})

test('parallel labs have the same addresses and do not meet', { skip }, async () => {
  await using one = await Lab.create(twoSites)
  await using other = await Lab.create(twoSites)
  assert.equal(one.address('a1'), other.address('a1'))
  await one.block('a1')
  assert.equal((await one.run('a1', 'ping', ['-c', '1', '-W', '0.1', one.address('helper')])).code, 1)
  assert.equal((await other.run('a1', 'ping', ['-c', '1', other.address('helper')])).code, 0)
})

test('block, lift, capture, conntrack, flush, rebind', { skip }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'natwork-lab-'))
  try {
    await using lab = await Lab.create(twoSites)
    const ping = async (): Promise<boolean> =>
      (await lab.run('a1', 'ping', ['-c', '1', '-W', '0.2', lab.address('helper')])).code === 0
    const capture = await lab.capture('a1', join(folder, 'a1.pcap'))
    assert.equal(await ping(), true)
    await capture.stop()
    const shown = execFileSync('tcpdump', ['-nr', join(folder, 'a1.pcap')], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    assert.match(shown, /192\.168\.1\.10 > 192\.0\.2\.10: ICMP echo request/)
    assert.match(shown, /192\.0\.2\.10 > 192\.168\.1\.10: ICMP echo reply/)

    assert.match((await lab.conntrack('a-home')).join('\n'), /src=192\.168\.1\.10 dst=192\.0\.2\.10/)
    await lab.flush('a-home')
    assert.deepEqual(await lab.conntrack('a-home'), [])

    const lift = await lab.block('a1', { peer: 'helper', protocol: 'icmp' })
    assert.equal(await ping(), false)
    await lift()
    assert.equal(await ping(), true)

    await lab.rebind('a1', '192.168.1.77')
    assert.equal(lab.address('a1'), '192.168.1.77')
    assert.equal(await ping(), true)
    assert.match((await lab.conntrack('a-home')).join('\n'), /src=192\.168\.1\.77/)
    await lab.rebind('a-home', '198.51.100.200')
    assert.equal(await ping(), true)
    assert.match((await lab.conntrack('a-home')).join('\n'), /dst=198\.51\.100\.200/)
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('an abort closes the lab', { skip }, async () => {
  const controller = new AbortController()
  const earlier = await Lab.create(twoSites, { signal: controller.signal })
  await earlier.close()
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
  const lab = await Lab.create(twoSites, { signal: controller.signal })
  const sleeper = lab.exec('a1', 'sleep', ['1000'])
  controller.abort()
  await once(sleeper, 'exit')
  await lab.close()
  await assert.rejects(lab.run('a1', 'true'), { code: 'ERR_NATWORK_LAB_CLOSED' })
  await assert.rejects(Lab.create(twoSites, { signal: controller.signal }), { name: 'AbortError' })
})

test('what cannot be built says so in one line', async () => {
  const create = (data: unknown): Promise<Lab> => Lab.create(data as Topology)
  await assert.rejects(create({ sites: { a: 'cone' } }), {
    code: 'ERR_NATWORK_LAB_UNKNOWN_KIND',
    message: /^there is no router kind "cone"; there are: none, dmz-literal, /,
  })
  await assert.rejects(create({ sites: { a: { routers: ['dmz'], clients: 0 } } }), {
    code: 'ERR_NATWORK_LAB_TOPOLOGY',
  })
  await assert.rejects(create({ sites: { 'A b': 'dmz' } }), { message: /begins with a letter/ })
  await assert.rejects(create({ sites: { a: 'dmz', b: { routers: ['dmz'], behind: 'a' } } }), {
    message: /which has no carrier to share/,
  })
})

async function hostState(): Promise<object> {
  const links = execFileSync('ip', ['-br', 'link'], { encoding: 'utf8' })
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').length
  const own = await processes()
  return { links, mounts, own }
}

async function processes(): Promise<string[]> {
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes('natwork-orphan-test') || command.startsWith('sleep\0' + '1000')) found.push(command)
  }
  return found
}

async function gone(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0)
    } catch {
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
