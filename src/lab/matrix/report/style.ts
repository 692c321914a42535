/**
 * The page's style. Colours are told apart by lightness and pattern as well as by hue (blue, amber, red), so that the
 * matrix reads without colour vision and on a black-and-white printer.
 */
export const pageStyle = `
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #16202b; --soft: #5b6875; --line: #dde2e6; --hover: #16202b;
  --direct0: #14599c; --direct0-ink: #ffffff; --direct1: #5f9fd6; --direct1-ink: #07203a;
  --direct2: #b9d7ef; --direct2-ink: #0b2b49;
  --relayed: #f6c453; --relayed-line: #e9a91f; --relayed-ink: #3b2900;
  --failed: #f7e3de; --failed-line: #edc5bb; --failed-ink: #a12a12;
  --mixed: #eef1f3; --mixed-ink: #16202b; --missing: #eceff1; --mark: #d6006c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #10161c; --card: #182028; --ink: #e8edf1; --soft: #9aa8b4; --line: #2b3640; --hover: #ffffff;
    --direct0: #3d94e0; --direct0-ink: #03182b; --direct1: #2668a6; --direct1-ink: #eaf4fd;
    --direct2: #1d4264; --direct2-ink: #d7e9f8;
    --relayed: #b98312; --relayed-line: #d09c2b; --relayed-ink: #1a1200;
    --failed: #33211e; --failed-line: #47302b; --failed-ink: #f08a73;
    --mixed: #25303a; --mixed-ink: #e8edf1; --missing: #151c23; --mark: #ff5fb0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink); text-wrap: pretty;
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif;
}
header.top, main, footer, .tabs { padding-inline: clamp(12px, 3vw, 40px); max-width: 1640px; margin-inline: auto; }
header.top { padding-top: 32px; }
.kicker { margin: 0; color: var(--soft); font-size: 13px; letter-spacing: .02em; }
h1 { margin: 4px 0 16px; font-size: clamp(24px, 3.2vw, 40px); line-height: 1.15; font-weight: 650; letter-spacing: -.02em; }
h1 strong { color: var(--direct0); font-weight: 750; }
h2 { font-size: 21px; letter-spacing: -.01em; margin: 32px 0 8px; }
h3 { font-size: 16px; margin: 24px 0 8px; }
h1 small, h2 small, th small { color: var(--soft); font-weight: 400; }
.lede { max-width: 78ch; margin: 0 0 16px; color: var(--soft); }
.lede b { color: var(--ink); }
table { border-collapse: collapse; }
.number { font-variant-numeric: tabular-nums; }

.bar { display: flex; height: 10px; border-radius: 3px; overflow: hidden; gap: 1px; min-width: 60px; }
.bar i { min-width: 2px; }
.bar .direct, .swatch.direct { background: var(--direct0); }
.bar .mixed, .swatch.mixed { background: linear-gradient(90deg, var(--direct1) 50%, var(--failed-ink) 50%); }
.bar .relayed, .swatch.relayed, .c.relayed {
  background: repeating-linear-gradient(135deg, var(--relayed) 0 5px, var(--relayed-line) 5px 7px);
}
.bar .failed, .swatch.failed { background: var(--failed-ink); }

.compare { display: grid; gap: 24px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 720px), 1fr)); align-items: start; }
.compare table { width: 100%; font-size: 13.5px; }
.compare caption { text-align: left; color: var(--soft); padding-bottom: 4px; }
.compare th, .compare td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
.compare thead th { color: var(--soft); font-weight: 500; }
.compare .wide { width: 22%; }
.stacks .number { white-space: nowrap; }
.classes .bar { height: 6px; margin-bottom: 3px; }
.none { color: var(--soft); }

.tabs { display: flex; gap: 4px; margin-top: 24px; border-bottom: 1px solid var(--line); position: sticky; top: 0; background: var(--paper); z-index: 5; }
.tabs button { font: inherit; font-weight: 600; color: var(--soft); background: none; border: 0; border-bottom: 3px solid transparent; padding: 10px 14px; cursor: pointer; }
.tabs button[aria-selected=true] { color: var(--ink); border-color: var(--direct0); }
.stack.hidden { display: none; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0 0 12px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; position: relative; }
.tile b { font-size: 26px; font-weight: 700; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.tile small { display: block; color: var(--soft); }
.tile .swatch { position: absolute; inset: 0 auto 0 0; width: 6px; border-radius: 10px 0 0 10px; }
.tile.all .bar { margin-bottom: 2px; }

.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; font-size: 13px; color: var(--soft); margin: 12px 0; align-items: center; }
.key { display: inline-flex; align-items: center; gap: 6px; }
.key .c { width: 34px; height: 24px; display: inline-flex; font-style: normal; font-weight: 600; }
.key.note { flex-basis: 100%; }

.scroll { overflow-x: auto; padding-bottom: 8px; }
.matrix { border-spacing: 0; table-layout: fixed; width: max-content; min-width: min(100%, calc(170px + var(--n) * 64px)); }
.matrix th { font-weight: 500; font-size: 12px; white-space: nowrap; }
.matrix tbody th { text-align: right; padding: 0 8px 0 4px; position: sticky; left: 0; background: var(--paper); z-index: 2; width: 170px; }
.matrix .corner { position: sticky; left: 0; background: var(--paper); z-index: 3; font-size: 12px; color: var(--soft); vertical-align: bottom; text-align: right; padding: 0 8px 6px 0; width: 170px; }
.corner span { display: block; }
.matrix .groups th { text-align: left; color: var(--soft); font-size: 11px; letter-spacing: .06em; text-transform: uppercase; padding: 0 0 4px 4px; overflow: hidden; text-overflow: ellipsis; max-width: 0; }
.matrix th.col { height: 150px; vertical-align: bottom; padding: 0; }
.matrix th.col span { writing-mode: vertical-rl; transform: rotate(180deg); padding: 6px 0 0; line-height: 1; margin: 0 auto; display: block; }
.matrix .edge { border-left: 6px solid transparent; }
.matrix tr.edge > * { border-top: 6px solid transparent; }
.matrix td.cell { padding: 1px; min-width: 40px; }
.c {
  display: flex; flex-direction: column; align-items: center; justify-content: center; position: relative;
  width: 100%; height: 36px; border: 0; border-radius: 4px; padding: 0; overflow: hidden; cursor: pointer;
  font: 600 12.5px/1.1 system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; font-variant-numeric: tabular-nums;
}
.c b { font-weight: 650; }
.c small { font-size: 10px; font-weight: 450; opacity: .85; line-height: 1.1; }
.c em { font-style: normal; font-weight: 800; margin-right: 2px; }
.c.direct { background: var(--direct0); color: var(--direct0-ink); }
.c.direct.t1 { background: var(--direct1); color: var(--direct1-ink); }
.c.direct.t2 { background: var(--direct2); color: var(--direct2-ink); }
.c.relayed { color: var(--relayed-ink); }
.c.failed { background: radial-gradient(var(--failed-line) 1px, var(--failed) 1.4px) 0 0 / 6px 6px; color: var(--failed-ink); }
.c.failed b { font-size: 15px; }
.c.mixed { background: var(--mixed); color: var(--mixed-ink); box-shadow: inset 0 0 0 1px var(--line); padding-bottom: 5px; }
.c.mixed .bar { position: absolute; inset: auto 0 0 0; height: 5px; border-radius: 0; min-width: 0; }
.c.missing { background: var(--missing); cursor: default; }
/* Corners: theory and runs part. Below: bottom left; beyond: top right. */
.c.below::after, .c.beyond::after { content: ''; position: absolute; border: 6px solid transparent; }
.c.below::after { left: 0; bottom: 0; border-left-color: var(--mark); border-bottom-color: var(--mark); }
.c.beyond::after { right: 0; top: 0; border-right-color: var(--mark); border-top-color: var(--mark); }
button.c:hover, button.c:focus-visible { outline: 2px solid var(--hover); outline-offset: 0; z-index: 1; }
.matrix .lit { color: var(--direct0); font-weight: 700; }

.findings { list-style: none; padding: 0; margin: 0; display: grid; gap: 4px; }
.findings summary { cursor: pointer; }
.findings p { margin: 6px 0 10px 18px; }
.jump { font: inherit; font-size: 13px; background: var(--card); border: 1px solid var(--line); border-radius: 6px; color: inherit; padding: 2px 8px; margin: 2px 0; cursor: pointer; }
.jump small, .run small { color: var(--soft); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; font-size: 14px; max-width: 110ch; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
footer { border-top: 1px solid var(--line); margin-top: 40px; padding-bottom: 60px; }
footer p { max-width: 78ch; }

dialog { width: min(880px, 100vw); height: 100vh; max-height: 100vh; margin: 0 0 0 auto; border: 0; padding: 24px 28px 48px; background: var(--card); color: var(--ink); box-shadow: 0 0 40px rgb(0 0 0 / .3); overflow-y: auto; }
dialog::backdrop { background: rgb(10 20 30 / .35); }
dialog h2 { margin-top: 0; }
dialog .close { position: absolute; top: 14px; right: 16px; font-size: 26px; line-height: 1; background: none; border: 0; color: var(--soft); cursor: pointer; }
.run { border-top: 1px solid var(--line); padding: 12px 0; }
.run h3 { margin: 0 0 4px; display: flex; gap: 10px; align-items: center; }
.run h3 .c { width: 44px; height: 26px; cursor: default; }
.run .warn { color: var(--failed-ink); font-weight: 600; }
.run pre { font: 12px/1.45 ui-monospace, 'SF Mono', Menlo, Consolas, monospace; background: var(--paper); border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px; overflow: auto; max-height: 420px; margin: 6px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.run a { color: inherit; margin-right: 14px; }

@media print {
  @page { size: A3 landscape; margin: 10mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .tabs, dialog { display: none !important; }
  .stack.hidden { display: block; }
  .stack + .stack { break-before: page; }
  .scroll { overflow: visible; }
  .matrix { min-width: 100%; }
  header.top, main, footer { max-width: none; padding-inline: 0; }
}
`
