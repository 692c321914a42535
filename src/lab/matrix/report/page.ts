import { gzipSync } from 'node:zlib'
import { kinds, type KindName } from '../../../sim/kinds.ts'
import type { RunRecord } from '../results.ts'
import {
  countVerdicts,
  groupOf,
  groups,
  pairClassOf,
  pairClasses,
  timesOf,
  type Cell,
  type StackSummary,
} from '../summary.ts'
import { Html, html, jsonScript } from './html.ts'
import { pageScript } from './script.ts'
import { pageStyle } from './style.ts'
import { cellText, findingsOf, longTime, shortTime, theoryOf, theoryTexts, timesText } from './words.ts'

export interface PageOptions {
  readonly stacks: readonly StackSummary[]
  /** ISO time of this page. */
  readonly generated: string
  /** Bytes of a run's capture by its file name, or undefined when it is gone. */
  readonly readCapture: (summary: StackSummary, file: string) => Uint8Array | undefined
  /** Bytes of runs, logs, tables and captures in the page, compressed; what is above stays in the results folder. */
  readonly detailBytes?: number
}

/**
 * The report: one HTML page that needs nothing else. The matrices and the story are plain HTML, readable without
 * scripts and on paper; each cell's runs are compressed data that the page's script unpacks when a cell is opened.
 */
export function renderPage(options: PageOptions): string {
  const { stacks, generated } = options
  const details = embedDetails(options)
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${pageTitle(stacks)}</title>
        <style>
          ${new Html(pageStyle)}
        </style>
      </head>
      <body>
        <header class="top">
          <p class="kicker">natwork lab matrix · ${generated.slice(0, 16).replace('T', ' ')} UTC</p>
          <h1>${headline(stacks)}</h1>
          ${stacks.length > 1 ? sideBySide(stacks) : undefined}
        </header>
        ${stacks.length > 1 ? tabs(stacks) : undefined}
        <main>${stacks.map((stack, index) => stackSection(stack, index, stacks))}</main>
        <footer>
          <h2>How to read this</h2>
          ${howToRead()}
          <h2>The kinds</h2>
          ${kindTable(stacks)}
        </footer>
        <dialog id="cell" aria-labelledby="cell-title">
          <form method="dialog"><button class="close" aria-label="Close">×</button></form>
          <h2 id="cell-title"></h2>
          <div id="cell-body"></div>
        </dialog>
        ${jsonScript('kinds', kindTexts(stacks))} ${details}
        <script>
          ${new Html(pageScript)}
        </script>
      </body>
    </html>`.text
}

function pageTitle(stacks: readonly StackSummary[]): string {
  return `${stacks.map(({ results }) => results.header.stack).join(' · ')} — NAT matrix`
}

function headline(stacks: readonly StackSummary[]): Html {
  const [first, ...others] = stacks.map((stack) => ({ name: stack.results.header.stack, ...stack.totals }))
  if (!first) return html`No results`
  if (others.length === 0) {
    return html`${first.name}: <strong>${first.direct}</strong> of ${first.cells} cells direct`
  }
  return html`${stacks.map(({ results, totals }, index) => [
    index > 0 ? html`, ` : undefined,
    html`${results.header.stack} <strong>${totals.direct}</strong> of ${totals.cells}`,
  ])}
  cells direct`
}

/** The comparison: one row per stack, then one per class of pairs. */
function sideBySide(stacks: readonly StackSummary[]): Html {
  const common = commonPairs(stacks)
  return html`<section class="compare" aria-label="Side by side">
    <table class="stacks">
      <thead>
        <tr>
          <th scope="col">Stack</th>
          <th scope="col" class="wide">Cells</th>
          <th scope="col">Connected runs</th>
          <th scope="col">Direct runs</th>
          <th scope="col">Until direct</th>
          <th scope="col">Until relayed</th>
        </tr>
      </thead>
      <tbody>
        ${stacks.map(
          ({ results, totals }) =>
            html`<tr>
              <th scope="row">${results.header.stack} <small>${results.header.stackVersion}</small></th>
              <td>${bar(totals)}</td>
              <td class="number">
                ${percent(totals.runs.direct + totals.runs.relayed, results.runs.length)}
              </td>
              <td class="number">${percent(totals.runs.direct, results.runs.length)}</td>
              <td class="number">${timesText(totals.directTimes)}</td>
              <td class="number">${timesText(totals.relayedTimes)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
    <table class="classes">
      <caption>
        Runs by class of pair, over the ${common.size} pairs that every stack ran: share direct (and connected
        at all), median until data flowed by the final path
      </caption>
      <thead>
        <tr>
          <th scope="col">Pair</th>
          ${stacks.map(({ results }) => html`<th scope="col">${results.header.stack}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${pairClasses.map(
          ({ title }) =>
            html`<tr>
              <th scope="row">${title}</th>
              ${stacks.map((stack) => classCell(stack, title, common))}
            </tr>`,
        )}
      </tbody>
    </table>
  </section>`
}

/** Stacks are compared by what all of them had to do. */
function commonPairs(stacks: readonly StackSummary[]): Set<string> {
  const [first = new Set<string>(), ...others] = stacks.map(
    ({ cells }) => new Set(cells.filter(({ state }) => state !== 'missing').map(({ a, b }) => `${a} ${b}`)),
  )
  return new Set([...first].filter((pair) => others.every((other) => other.has(pair))))
}

function classCell(stack: StackSummary, title: string, common: ReadonlySet<string>): Html {
  const runs = stack.cells
    .filter(({ a, b }) => pairClassOf(a, b) === title && common.has(`${a} ${b}`))
    .flatMap((cell) => cell.runs)
  if (runs.length === 0) return html`<td class="number none">not run</td>`
  const counts = countVerdicts(runs)
  const connected = counts.direct + counts.relayed
  const times = timesOf(runs.map((run) => run.pathMs))
  return html`<td class="number">
    ${bar({ ...counts, mixed: 0, cells: runs.length })}
    <span
      ><b>${percent(counts.direct, runs.length)}</b> (${percent(connected, runs.length)})
      ${times ? html`· ${longTime(times.median)}` : undefined}</span
    >
  </td>`
}

interface BarCounts {
  readonly direct: number
  readonly relayed: number
  readonly failed: number
  readonly mixed: number
  readonly cells: number
}

function bar(counts: BarCounts): Html {
  const parts = (['direct', 'mixed', 'relayed', 'failed'] as const).filter((state) => counts[state] > 0)
  const label = parts.map((state) => `${counts[state]} ${state}`).join(', ')
  return html`<div class="bar" role="img" aria-label="${label}" title="${label}">
    ${parts.map((state) => html`<i class="${state}" style="flex:${counts[state]}"></i>`)}
  </div>`
}

function percent(part: number, whole: number): string {
  if (whole === 0) return '—'
  const share = (100 * part) / whole
  // 99.9 % is not all, 0.1 % is not none.
  if (part < whole && share > 99) return `${(Math.floor(share * 10) / 10).toFixed(1)} %`
  return part > 0 && share < 1 ? '< 1 %' : `${Math.round(share)} %`
}

function tabs(stacks: readonly StackSummary[]): Html {
  return html`<nav class="tabs" role="tablist">
    ${stacks.map(
      ({ results }, index) =>
        html`<button
          role="tab"
          id="tab-${index}"
          aria-controls="stack-${index}"
          aria-selected="${index === 0 ? 'true' : 'false'}"
        >
          ${results.header.stack}
        </button>`,
    )}
  </nav>`
}

function stackSection(stack: StackSummary, index: number, stacks: readonly StackSummary[]): Html {
  const { header } = stack.results
  return html`<section class="stack" id="stack-${index}">
    <h2 class="stack-title">${header.stack} <small>${header.stackVersion}</small></h2>
    <p class="lede">${header.description} ${story(stack)}</p>
    ${tiles(stack)} ${legend(stack)} ${matrix(stack, index)} ${findings(stack, index, stacks)}
    ${whatWasRun(stack)}
  </section>`
}

function story({ totals }: StackSummary): Html {
  const rest = [
    totals.mixed > 0 ? `${totals.mixed} differ from run to run` : '',
    totals.relayed > 0 ? `${totals.relayed} are relayed` : '',
    totals.failed > 0 ? `${totals.failed} never connect` : '',
  ].filter((part) => part !== '')
  return html`Of ${totals.cells} ordered pairs of routers, <b>${totals.direct} are direct</b> in every
    run${rest.length > 0 ? `; ${rest.join(', ')}` : ''}.`
}

function tiles({ totals, results }: StackSummary): Html {
  const tile = (state: string, title: string, value: number, note: string): Html =>
    html`<div class="tile ${state}">
      <span class="swatch ${state}"></span>
      <b>${value}</b> <span>${title}</span> <small>${note}</small>
    </div>`
  return html`<div class="tiles">
    ${tile('direct', 'direct', totals.direct, totals.directTimes ? timesText(totals.directTimes) : 'no run')}
    ${tile('mixed', 'mixed', totals.mixed, 'runs of one cell differ')}
    ${tile('relayed', 'relayed', totals.relayed, totals.relayedTimes ? timesText(totals.relayedTimes) : 'no run')}
    ${tile('failed', 'failed', totals.failed, 'never connected')}
    <div class="tile all">
      ${bar(totals)} <b>${results.runs.length}</b> <span>runs</span>
      <small
        >${percent(totals.runs.direct, results.runs.length)} direct,
        ${percent(totals.runs.direct + totals.runs.relayed, results.runs.length)} connected</small
      >
    </div>
  </div>`
}

function legend({ cells }: StackSummary): Html {
  const theory = cells.some((cell) => cell.expectation)
  const key = (classes: string, sample: string, text: string): Html =>
    html`<span class="key"><i class="c ${classes}">${sample}</i>${text}</span>`
  return html`<p class="legend">
    ${key('direct t0', '95', `direct, median ≤ ${TIME_STEPS[0]} ms`)}
    ${key('direct t1', '420', `≤ ${TIME_STEPS[1]} ms`)} ${key('direct t2', '1.4s', 'slower')}
    ${key('relayed', 'R', 'relayed')} ${key('mixed', '2/3', 'runs differ: direct of all')}
    ${key('failed', '×', 'failed')} ${key('missing', '', 'not run')}
    ${theory ? key('failed below', '×', theoryTexts.below) : undefined}
    ${theory ? key('direct t0 beyond', '95', theoryTexts.beyond) : undefined}
    <span class="key note"
      >large: median until data flowed by that path; small: p95; in ms unless it says s</span
    >
  </p>`
}

/** Medians up to here are as fast as it gets, up to there still prompt; milliseconds. */
const TIME_STEPS = [200, 1_000] as const

function matrix({ kinds: names, cells }: StackSummary, stack: number): Html {
  const starts = (name: KindName, index: number): boolean =>
    index > 0 && groupOf(name) !== groupOf(names[index - 1] as KindName)
  const edge = (name: KindName, index: number): string => (starts(name, index) ? ' edge' : '')
  const spans = groups
    .map((group) => ({ ...group, size: names.filter((name) => groupOf(name) === group.name).length }))
    .filter(({ size }) => size > 0)
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Matrix">
    <table class="matrix" data-stack="${stack}" style="--n:${names.length}">
      <thead>
        <tr class="groups">
          <td class="corner" rowspan="2">
            <span class="to">B, called →</span><span class="from">A, calls ↓</span>
          </td>
          ${spans.map(({ title, size, summary }, i) => html`<th colspan="${size}" scope="colgroup" class="${i > 0 ? 'edge' : ''}" title="${summary}">${title}</th>`)}
        </tr>
        <tr>
          ${names.map((name, i) => html`<th scope="col" class="col${edge(name, i)}" title="${kinds[name].summary}"><span>${name}</span></th>`)}
        </tr>
      </thead>
      <tbody>
        ${names.map(
          (a, row) =>
            html`<tr class="${edge(a, row).trim()}">
              <th scope="row" title="${kinds[a].summary}">${a}</th>
              ${names.map((b, column) => matrixCell(cells[row * names.length + column], row * names.length + column, edge(b, column)))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`
}

function matrixCell(cell: Cell | undefined, index: number, edge: string): Html {
  if (!cell || cell.state === 'missing') return html`<td class="cell${edge}"><i class="c missing"></i></td>`
  const theory = theoryOf(cell) ?? ''
  const speed = cell.state === 'direct' && cell.times ? `t${timeStep(cell.times.median)}` : ''
  return html`<td class="cell${edge}">
    <button
      class="c ${cell.state} ${speed} ${theory}"
      data-cell="${index}"
      title="${cellText(cell)}"
      aria-label="${cellText(cell)}"
    >
      ${cellFace(cell)}
    </button>
  </td>`
}

function timeStep(ms: number): number {
  const step = TIME_STEPS.findIndex((limit) => ms <= limit)
  return step === -1 ? TIME_STEPS.length : step
}

function cellFace({ state, counts, times, runs }: Cell): Html {
  if (state === 'failed') return html`<b>×</b>`
  const time = times ? shortTime(times.median) : ''
  const p95 = times && runs.length > 1 ? html`<small>${shortTime(times.p95)}</small>` : undefined
  if (state === 'mixed') {
    return html`<b>${counts.direct}/${runs.length}</b
      ><small>${time}</small>${bar({ ...counts, mixed: 0, cells: runs.length })}`
  }
  return html`<b>${state === 'relayed' ? html`<em>R</em>` : undefined}${time}</b>${p95}`
}

function findings(stack: StackSummary, index: number, stacks: readonly StackSummary[]): Html | undefined {
  const found = findingsOf(
    stack,
    stacks.filter((other) => other !== stack),
  )
  if (found.length === 0) return undefined
  const at = new Map(stack.cells.map((cell, i) => [cell, i]))
  return html`<h3>What stands out</h3>
    <ul class="findings">
      ${found.map(
        ({ title, cells }) =>
          html`<li>
            <details>
              <summary><b>${cells.length}</b> ${title}</summary>
              <p>
                ${cells.map((cell) => html`<button class="jump" data-stack="${index}" data-cell="${at.get(cell)}">${cell.a} → ${cell.b}${cell.times ? html` <small>${longTime(cell.times.median)}</small>` : undefined}</button> `)}
              </p>
            </details>
          </li>`,
      )}
    </ul>`
}

function whatWasRun({ results, kinds: names, totals }: StackSummary): Html {
  const { header, runs } = results
  const most = Math.max(...runs.map(({ run }) => run), 0)
  const rows: [string, string][] = [
    ['Stack', `${header.stack} ${header.stackVersion}`],
    ['Started', `${header.started.slice(0, 19).replace('T', ' ')} UTC`],
    ['Pairs', `${totals.cells} ordered pairs of ${names.length} kinds, up to ${most} runs each`],
    ['Payload', `${header.payload / 1024} KiB from A to B in each run`],
    ['Time-out', `${header.timeoutMs / 1000} s`],
    ...Object.entries(header.environment),
  ]
  return html`<h3>What was run</h3>
    <dl class="facts">
      ${rows.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>`
}

function howToRead(): Html {
  return html`<p>
      Each cell is one ordered pair: A, behind the router of the row, connects to B, behind the router of the
      column. Both are real Linux network namespaces behind real routers, with delay and hops between them; a
      public helper host serves signalling and relay. After it has connected, A sends B a known amount of
      data.
    </p>
    <p>
      <b>Direct, relayed and failed are measured, not believed:</b> relayed when that data went in and out of
      the helper host, direct when it arrived and did not, failed when it did not arrive. Times are the
      program’s own: from its call of connect to the first byte that came back by the final path. Open a cell
      for its runs, logs, connection tracking tables and captures.
    </p>`
}

function kindTable(stacks: readonly StackSummary[]): Html {
  return html`<dl class="facts kinds">
    ${Object.values(kindTexts(stacks)).map(
      ({ name, summary }) =>
        html`<dt>${name}</dt>
          <dd>${summary}</dd>`,
    )}
  </dl>`
}

interface KindText {
  readonly name: string
  readonly summary: string
  readonly behaviour: string
}

function kindTexts(stacks: readonly StackSummary[]): Record<string, KindText> {
  const names = [...new Set(stacks.flatMap((stack) => stack.kinds))]
  return Object.fromEntries(
    names.map((name) => {
      const { summary, behaviour } = kinds[name]
      const text = behaviour
        ? `mapping ${behaviour.mapping}, filtering ${behaviour.filtering}, ports ${behaviour.ports}, hairpin ${behaviour.hairpin}`
        : 'no UDP'
      return [name, { name, summary, behaviour: text }]
    }),
  )
}

/** About 8 MB of page once in base64. */
const DETAIL_BYTES = 6 * 1024 * 1024

type CellDetail = Omit<Cell, 'runs' | 'times' | 'firstByte'> & { readonly runs: readonly RunDetail[] }
type RunDetail = Omit<RunRecord, 'captures'> & {
  /** Base64 of a pcap file by host, or the file's name where the page has no room for it. */
  readonly captures: Readonly<Record<string, { readonly data: string } | { readonly file: string }>>
}

/**
 * Each cell's runs, compressed. Cells that a reader wants to open come first; when the room ends, the others go
 * without logs, tables and captures.
 */
function embedDetails({ stacks, readCapture, detailBytes = DETAIL_BYTES }: PageOptions): Html {
  const all = stacks.flatMap((stack, index) =>
    stack.cells.map((cell, i) => ({ stack, cell, id: `cell-${index}-${i}` })),
  )
  const present = all.filter(({ cell }) => cell.state !== 'missing')
  present.sort((x, y) => interest(y.cell) - interest(x.cell))
  let room = detailBytes
  return html`${present.map(({ stack, cell, id }) => {
    let packed = pack(detailOf(cell, (file) => readCapture(stack, file)))
    if (packed.byteLength > room) packed = pack(bare(cell))
    room -= packed.byteLength
    return new Html(`<script type="text/plain" id="${id}">${packed.toString('base64')}</script>`)
  })}`
}

function interest(cell: Cell): number {
  const strange = cell.runs.some(({ claimed, verdict }) => claimed !== undefined && claimed !== verdict)
  return (
    (strange ? 8 : 0) +
    (theoryOf(cell) ? 4 : 0) +
    (cell.state === 'mixed' ? 2 : cell.state === 'failed' ? 1 : 0)
  )
}

function detailOf(cell: Cell, read: (file: string) => Uint8Array | undefined): CellDetail {
  const runs = cell.runs.map((run) => ({
    ...run,
    captures: Object.fromEntries(
      Object.entries(run.captures).map(([host, file]) => {
        const bytes = read(file)
        const fits = bytes !== undefined && bytes.byteLength <= MAX_CAPTURE
        return [host, fits ? { data: Buffer.from(bytes).toString('base64') } : { file }]
      }),
    ),
  }))
  const { a, b, state, counts, expectation } = cell
  return { a, b, state, counts, expectation, runs }
}

/** Larger captures stay in the results folder. */
const MAX_CAPTURE = 512 * 1024

function bare(cell: Cell): CellDetail {
  const full = detailOf(cell, () => undefined)
  return { ...full, runs: full.runs.map((run) => ({ ...run, logs: {}, conntrack: {} })) }
}

function pack(detail: CellDetail): Buffer {
  return gzipSync(JSON.stringify(detail))
}
