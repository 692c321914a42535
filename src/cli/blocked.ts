/** What it means that a node's network lets no UDP out. */
export function blockedSentence(helpers: readonly { readonly tls: number | undefined }[]): string {
  const ports = [...new Set(helpers.flatMap(({ tls }) => tls ?? []))]
  const where = ports.length === 0 ? '' : ` on port ${ports.join(' and ')}`
  return `UDP is blocked here: relayed over TLS${where}`
}
