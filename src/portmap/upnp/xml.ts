import { XMLParser } from 'fast-xml-parser'

/** An element's children by name; text where it has none; a list where a name comes more than once. */
export type XmlNode = string | readonly XmlNode[] | { readonly [name: string]: XmlNode }

/**
 * Reads a device's XML: no attributes, no name space prefixes, no entities of its own (their expansion is how a small
 * text becomes a large one).
 *
 * Forgiving, as routers need it: what is not quite well-formed gives what can be made of it.
 *
 * @returns undefined for what cannot be read, or looks like an attack.
 */
export function parseXml(text: string): XmlNode | undefined {
  if (/<!(?:DOCTYPE|ENTITY)/i.test(text)) return undefined
  try {
    return parser.parse(text) as XmlNode
  } catch {
    // The library throws for what it takes for an attack: too deep, names of object prototypes.
    return undefined
  }
}

const parser = new XMLParser({
  ignoreAttributes: true,
  removeNSPrefix: true,
  parseTagValue: false,
  trimValues: true,
  ignoreDeclaration: true,
  ignorePiTags: true,
  maxNestedTags: 64,
})

/** The text of the child with that name, if it is text. */
export function textOf(node: XmlNode | undefined, name: string): string | undefined {
  const child = childOf(node, name)
  return typeof child === 'string' ? child : undefined
}

export function childOf(node: XmlNode | undefined, name: string): XmlNode | undefined {
  if (typeof node !== 'object' || isList(node)) return undefined
  return Object.hasOwn(node, name) ? node[name] : undefined
}

/** Every element with that name, at any depth, in the order of the document. */
export function allNamed(node: XmlNode, name: string): XmlNode[] {
  if (typeof node === 'string') return []
  if (isList(node)) return node.flatMap((each) => allNamed(each, name))
  return Object.entries(node).flatMap(([key, child]) => [
    ...(key === name ? (isList(child) ? child : [child]) : []),
    ...allNamed(child, name),
  ])
}

/** For an element's text. */
export function escapeXml(text: string): string {
  return text.replace(/[<>&'"]/g, (sign) => `&#${sign.charCodeAt(0)};`)
}

function isList(node: XmlNode): node is readonly XmlNode[] {
  return Array.isArray(node)
}
