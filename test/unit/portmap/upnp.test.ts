import assert from 'node:assert/strict'
import test from 'node:test'
import { connectionServices } from '../../../src/portmap/upnp/description.ts'
import { decodeAction, encodeAction } from '../../../src/portmap/upnp/soap.ts'
import { decodeSearchResponse, encodeSearch } from '../../../src/portmap/upnp/ssdp.ts'
import { parseXml } from '../../../src/portmap/upnp/xml.ts'

const WAN = 'urn:schemas-upnp-org:service:WANIPConnection:'
const here = '192.168.1.1'
const location = new URL('http://192.168.1.1:5000/rootDesc.xml')

test('a search is the request of UPnP Device Architecture 1.1 §1.3.2', () => {
  assert.equal(
    Buffer.from(encodeSearch('upnp:rootdevice')).toString(),
    'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n',
  )
})

const answer = (where: string, status = '200 OK'): Buffer =>
  Buffer.from(`HTTP/1.1 ${status}\r\nCACHE-CONTROL: max-age=120\r\nlocation:${where}\r\nEXT:\r\n\r\n`)

test('a search response names the description on the responding host, or is nothing', () => {
  assert.equal(decodeSearchResponse(answer(' http://192.168.1.1:5000/d.xml'), here)?.port, '5000')
  assert.equal(
    decodeSearchResponse(answer('http://192.168.1.1/d.xml'), here)?.href,
    'http://192.168.1.1/d.xml',
  )
  for (const wrong of [
    answer('http://192.168.1.2/d.xml'),
    answer('http://router.example/d.xml'),
    answer('http://192.168.1.1:99999/d.xml'),
    answer('http://a@192.168.1.1/d.xml'),
    answer('ftp://192.168.1.1/d.xml'),
    answer('/d.xml'),
    answer(`http://192.168.1.1/${'x'.repeat(1_500)}`),
    answer('http://192.168.1.1/d.xml', '404 Not Found'),
    Buffer.from('NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/d.xml\r\n\r\n'),
    Buffer.alloc(0),
  ]) {
    assert.equal(decodeSearchResponse(wrong, here), undefined, wrong.toString())
  }
})

const service = (type: string, control: string): string =>
  `<service><serviceType>${type}</serviceType><serviceId>x</serviceId><controlURL>${control}</controlURL></service>`

test('the services of a description: whatever their depth and prefix, version 2 first, on the same host only', () => {
  const xml = `<?xml version="1.0"?><u:root xmlns:u="urn:x"><u:device><serviceList>
    ${service('urn:schemas-upnp-org:service:Layer3Forwarding:1', '/l3')}
    ${service(`${WAN}1`, '/one?a=1&amp;b=2')}</serviceList>
    <deviceList><device><serviceList>${service(`${WAN}2`, 'http://192.168.1.1:5001/two')}
    ${service('urn:schemas-upnp-org:service:WANPPPConnection:1', 'relative')}
    ${service(`${WAN}1`, 'http://192.168.1.66/elsewhere')}</serviceList></device></deviceList></u:device></u:root>`
  assert.deepEqual(
    connectionServices(xml, location).map(({ version, controlUrl }) => [version, controlUrl.href]),
    [
      [2, 'http://192.168.1.1:5001/two'],
      [1, 'http://192.168.1.1:5000/one?a=1&b=2'],
      [1, 'http://192.168.1.1:5000/relative'],
    ],
  )
})

test('URLBase counts when it is on the same host', () => {
  const xml = (base: string): string =>
    `<root><URLBase>${base}</URLBase><device><serviceList>${service(`${WAN}1`, 'c')}</serviceList></device></root>`
  const control = (base: string): string | undefined =>
    connectionServices(xml(base), location)[0]?.controlUrl.href
  assert.equal(control('http://192.168.1.1:80/a/'), 'http://192.168.1.1/a/c')
  assert.equal(control('http://192.168.1.66/a/'), 'http://192.168.1.1:5000/c')
  assert.equal(control(''), 'http://192.168.1.1:5000/c')
})

test('hostile XML is nothing: entities, depth, names of prototypes, not XML at all', () => {
  const bomb = `<!DOCTYPE r [<!ENTITY a "${'x'.repeat(1_000)}"><!ENTITY b "&a;&a;&a;&a;">]><r>&b;&b;</r>`
  assert.equal(parseXml(bomb), undefined)
  assert.equal(parseXml(`${'<a>'.repeat(1_000)}${'</a>'.repeat(1_000)}`), undefined)
  for (const text of [
    '<__proto__><x>1</x></__proto__>',
    '<constructor><prototype>1</prototype></constructor>',
    '\0\0\0',
    '<root>',
    '<a><b></a></b>',
    '',
  ]) {
    assert.deepEqual(connectionServices(text, location), [], text)
  }
  assert.equal(({} as Record<string, unknown>)['x'], undefined)
  const many = service(`${WAN}1`, '/c').repeat(1_000)
  assert.equal(connectionServices(`<root>${many}</root>`, location).length, 4)
})

test('an action is a SOAP request with its arguments in order and escaped', () => {
  assert.equal(
    encodeAction(`${WAN}1`, 'AddPortMapping', { NewRemoteHost: '', NewPortMappingDescription: 'a<&"b' }),
    '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
      `<u:AddPortMapping xmlns:u="${WAN}1"><NewRemoteHost></NewRemoteHost><NewPortMappingDescription>a&#60;&#38;&#34;b</NewPortMappingDescription></u:AddPortMapping></s:Body></s:Envelope>\r\n`,
  )
})

const envelope = (body: string): string =>
  `<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"><SOAP-ENV:Body>${body}</SOAP-ENV:Body></SOAP-ENV:Envelope>`

test('answers: values, UPnP errors, HTTP errors; a device’s words are cut to what can be shown', () => {
  const good = envelope(
    '<m:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.5</NewExternalIPAddress></m:GetExternalIPAddressResponse>',
  )
  assert.deepEqual(decodeAction('GetExternalIPAddress', 200, good), {
    ok: true,
    values: { NewExternalIPAddress: '203.0.113.5' },
  })
  assert.equal(decodeAction('AddPortMapping', 200, good).ok, false, 'of another action')
  const fault = (code: string, text: string): string =>
    envelope(
      `<s:Fault><detail><UPnPError><errorCode>${code}</errorCode><errorDescription>${text}</errorDescription></UPnPError></detail></s:Fault>`,
    )
  assert.deepEqual(decodeAction('AddPortMapping', 500, fault('718', 'Conflict')), {
    ok: false,
    code: 718,
    description: 'Conflict',
  })
  const words = decodeAction('AddPortMapping', 500, fault('-5', `\u001b[31m${'w'.repeat(500)}`))
  assert.ok(!words.ok && words.code === 0)
  assert.match(words.description, /^\[31mw{96}$/)
  assert.deepEqual(decodeAction('AddPortMapping', 503, '<html>busy</html>'), {
    ok: false,
    code: 0,
    description: 'HTTP status 503',
  })
})
