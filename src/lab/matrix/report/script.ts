/**
 * The page's script: tabs, and the panel of a cell. It puts text into the page as text only (textContent), since logs
 * are whatever a program printed.
 */
export const pageScript = `
'use strict'
const byId = (id) => document.getElementById(id)
const kinds = JSON.parse(byId('kinds').textContent)

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children.filter((child) => child !== undefined && child !== ''))
  return element
}

// ---- tabs: one stack at a time on a screen, all of them without a script and on paper
const tabs = [...document.querySelectorAll('[role=tab]')]
function show(index) {
  tabs.forEach((tab, i) => {
    tab.setAttribute('aria-selected', String(i === index))
    tab.tabIndex = i === index ? 0 : -1
    byId('stack-' + i).classList.toggle('hidden', i !== index)
  })
}
tabs.forEach((tab, index) => {
  tab.addEventListener('click', () => show(index))
  tab.addEventListener('keydown', ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key]
    if (!step) return
    const next = (index + step + tabs.length) % tabs.length
    show(next)
    tabs[next].focus()
  })
})
if (tabs.length > 0) show(0)

// ---- the matrix: arrow keys, and the names of the row and column under the pointer
for (const matrix of document.querySelectorAll('.matrix')) {
  const heads = [...matrix.querySelectorAll('th.col')]
  const rows = [...matrix.tBodies[0].rows]
  const place = (node) => {
    const cell = node.closest('td.cell')
    return cell && { column: cell.cellIndex - 1, row: rows.indexOf(cell.parentElement) }
  }
  let lit = []
  const light = (event) => {
    const at = place(event.target)
    lit.forEach((element) => element.classList.remove('lit'))
    lit = at ? [heads[at.column], rows[at.row].cells[0]] : []
    lit.forEach((element) => element.classList.add('lit'))
  }
  matrix.addEventListener('pointerover', light)
  matrix.addEventListener('focusin', light)
  matrix.addEventListener('keydown', (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key]
    let at = step && place(event.target)
    while (at) {
      at = { row: at.row + step[0], column: at.column + step[1] }
      const next = rows[at.row]?.cells[at.column + 1]
      if (!next) return
      event.preventDefault()
      const button = next.querySelector('button')
      if (button) return button.focus()
    }
  })
}

// ---- the panel
document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-cell]')
  if (button) open(button.dataset.stack ?? button.closest('table').dataset.stack, button.dataset.cell)
})
byId('cell').addEventListener('click', (event) => event.target === byId('cell') && byId('cell').close())

async function open(stack, index) {
  const data = byId('cell-' + stack + '-' + index)
  if (!data) return
  const cell = JSON.parse(await unpack(data.textContent))
  byId('cell-title').textContent = cell.a + ' → ' + cell.b
  byId('cell-body').replaceChildren(
    make('dl', { className: 'facts' }, ...facts(cell).flatMap(([name, value]) => [
      make('dt', { textContent: name }), make('dd', { textContent: value }),
    ])),
    ...cell.runs.map(runView),
  )
  if (!byId('cell').open) byId('cell').showModal()
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0))
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))
  return new Response(stream).text()
}

function facts({ a, b, counts, expectation, runs }) {
  const { direct, relayed, failed } = counts
  return [
    ['A, ' + a, kinds[a].summary + ' (' + kinds[a].behaviour + ')'],
    ['B, ' + b, kinds[b].summary + ' (' + kinds[b].behaviour + ')'],
    ['Runs', runs.length + ': ' + direct + ' direct, ' + relayed + ' relayed, ' + failed + ' failed'],
    ...(expectation ? [['Theory', (expectation.possible ? 'a direct path exists. ' : 'no direct path. ') + expectation.reason + ' (' + expectation.source + ')']] : []),
  ]
}

function runView(run) {
  const face = { direct: '✓', relayed: 'R', failed: '×' }[run.verdict]
  const { sentByA, receivedByB, helperIn, helperOut } = run.traffic
  const lines = [
    run.firstByteMs !== undefined && 'first byte after ' + run.firstByteMs + ' ms' +
      (run.pathMs !== run.firstByteMs ? ', ' + run.verdict + ' after ' + run.pathMs + ' ms' : ''),
    (run.local || run.remote) && (run.local ?? '?') + ' → ' + (run.remote ?? '?'),
    'A sent ' + kib(sentByA) + ', B got ' + kib(receivedByB) + ', helper in ' + kib(helperIn) + ' out ' + kib(helperOut),
    run.details !== undefined && JSON.stringify(run.details),
    run.at.slice(0, 19).replace('T', ' ') + ' UTC, ' + (run.wallMs / 1000).toFixed(1) + ' s in all',
  ]
  const files = Object.entries(run.captures)
  return make('section', { className: 'run' },
    make('h3', {}, make('i', { className: 'c ' + run.verdict, textContent: face }), 'Run ' + run.run + ': ' + run.verdict),
    run.reason ? make('div', { className: 'warn', textContent: run.reason }) : '',
    run.claimed && run.claimed !== run.verdict
      ? make('div', { className: 'warn', textContent: 'The program says ' + run.claimed + ', the counters ' + run.verdict + '.' })
      : '',
    ...lines.filter(Boolean).map((textContent) => make('div', {}, make('small', { textContent }))),
    ...texts('log of ', run.logs),
    ...texts('conntrack of ', run.conntrack),
    files.length > 0 ? make('div', {}, 'Captures: ', ...files.map(([host, capture]) => captureLink(run, host, capture))) : '',
  )
}

function texts(title, record) {
  return Object.entries(record).filter(([, text]) => text !== '').map(([name, text]) =>
    make('details', {}, make('summary', { textContent: title + name }), make('pre', { textContent: text })))
}

function captureLink(run, host, { data, file }) {
  if (data === undefined) return make('small', { textContent: host + ': ' + file + ' in the results folder ' })
  return make('a', {
    href: 'data:application/vnd.tcpdump.pcap;base64,' + data,
    download: run.a + '+' + run.b + '-' + run.run + '-' + host + '.pcap',
    textContent: host + '.pcap',
  })
}

function kib(bytes) {
  return (bytes / 1024).toFixed(bytes < 10240 ? 1 : 0) + ' KiB'
}
`
