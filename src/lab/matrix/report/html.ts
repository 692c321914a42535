/** Text that already is HTML. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

type Value = string | number | Html | undefined | readonly Value[]

/** HTML from a template: everything put in is escaped, unless it is HTML itself. Lists are joined; undefined is nothing. */
export function html(strings: TemplateStringsArray, ...values: readonly Value[]): Html {
  return new Html(strings.reduce((all, part, i) => all + asText(values[i - 1]) + part))
}

/** JSON for a `<script type="application/json">`: nothing in it can end the element. */
export function jsonScript(id: string, value: unknown): Html {
  const json = JSON.stringify(value).replaceAll('<', '\\u003c')
  return new Html(`<script type="application/json" id="${escapeHtml(id)}">${json}</script>`)
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
}

function asText(value: Value): string {
  if (value instanceof Html) return value.text
  if (Array.isArray(value)) return value.map(asText).join('')
  return value === undefined ? '' : escapeHtml(String(value as string | number))
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
