import { StunUsageError } from '../errors.ts'

/**
 * The OpaqueString profile of PRECIS (RFC 8265 §4.2): what usernames, realms and passwords must become before they are
 * sent or hashed. Non-ASCII spaces become U+0020, then Unicode NFC; nothing else changes.
 *
 * @throws {StunUsageError} `ERR_NATWORK_STUN_CREDENTIALS` when the string is empty, or has a character that the
 * FreeformClass (RFC 8264 §4.3) does not allow: controls, unassigned, private use, default-ignorable ones and so on.
 */
export function opaqueString(text: string): string {
  if (asciiOnly.test(text)) return text
  // By code points: a lone surrogate is one of its own, and disallowed.
  const points = Array.from(text)
  const bad = points.findIndex((point, n) => !isAllowed(points, point, n))
  if (bad !== -1) {
    const code = (points[bad]?.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')
    throw new StunUsageError(
      'ERR_NATWORK_STUN_CREDENTIALS',
      `U+${code} is not allowed in a username, realm or password (RFC 8265, OpaqueString): remove it`,
    )
  }
  const prepared = text.replace(/\p{Zs}/gu, ' ').normalize('NFC')
  if (prepared === '') {
    throw new StunUsageError(
      'ERR_NATWORK_STUN_CREDENTIALS',
      'a username, realm or password must not be empty (RFC 8265 §4.1)',
    )
  }
  return prepared
}

/** The common case: printable ASCII, which nothing changes. */
const asciiOnly = /^[ -~]+$/

/** RFC 8264 §8, in its order; the categories that remain at its end are FREE_PVAL or PVALID. */
function isAllowed(points: readonly string[], point: string, at: number): boolean {
  if (disallowedExceptions.test(point)) return false
  if (contextual.test(point)) return contextAllows(points, point, at)
  if (oldHangulJamo.test(point) || ignorable.test(point)) return false
  return freeform.test(point)
}

/** §9.6 "Exceptions" that are DISALLOWED (the PVALID ones are letters and numbers anyway). */
const disallowedExceptions = /[\u0640\u07fa\u302e\u302f\u3031-\u3035\u303b]/u
/** §9.10 "OldHangulJamo": conjoining Jamo, by its blocks. */
const oldHangulJamo = /[\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7c6\ud7cb-\ud7fb]/u
/** §9.13 "PrecisIgnorableProperties". */
const ignorable = /[\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}]/u
/** Letters, marks, numbers, spaces, symbols, punctuation. What has a compatibility form falls under them too. */
const freeform = /[\p{L}\p{M}\p{N}\p{Zs}\p{S}\p{P}]/u

/** The CONTEXTJ and CONTEXTO code points (RFC 5892 §2.6 and appendix A). */
const contextual = /[\u200c\u200d\u00b7\u0375\u05f3\u05f4\u30fb\u0660-\u0669\u06f0-\u06f9]/u

/** RFC 5892 appendix A.1–A.9. */
function contextAllows(points: readonly string[], point: string, at: number): boolean {
  const before = points[at - 1] ?? ''
  const after = points[at + 1] ?? ''
  switch (point) {
    case '\u200c':
      // A.1 asks for joining types, which JavaScript does not know: letters of the joining scripts stand in for them.
      return virama.test(before) || (joiningScript.test(before) && joiningScript.test(after))
    case '\u200d':
      return virama.test(before)
    case '\u00b7':
      return before === 'l' && after === 'l'
    case '\u0375':
      return /\p{Script=Greek}/u.test(after)
    case '\u05f3':
    case '\u05f4':
      return /\p{Script=Hebrew}/u.test(before)
    case '\u30fb':
      return points.some((other) => /[\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Han}]/u.test(other))
    default:
      // Arabic-Indic digits and extended ones must not mix.
      return !points.some((other) => (point <= '\u0669' ? /[\u06f0-\u06f9]/ : /[\u0660-\u0669]/).test(other))
  }
}

const joiningScript =
  /[\p{Script=Arabic}\p{Script=Syriac}\p{Script=Nko}\p{Script=Mongolian}\p{Script=Mandaic}\p{Script=Adlam}]/u

/** Canonical_Combining_Class = Virama, which has no property escape (Unicode 14). */
const virama = new RegExp(
  `[${[
    '\\u{94d}\\u{9cd}\\u{a4d}\\u{acd}\\u{b4d}\\u{bcd}\\u{c4d}\\u{ccd}\\u{d3b}\\u{d3c}\\u{d4d}\\u{dca}\\u{e3a}',
    '\\u{eba}\\u{f84}\\u{1039}\\u{103a}\\u{1714}\\u{1715}\\u{1734}\\u{17d2}\\u{1a60}\\u{1b44}\\u{1baa}\\u{1bab}',
    '\\u{1bf2}\\u{1bf3}\\u{2d7f}\\u{a806}\\u{a82c}\\u{a8c4}\\u{a953}\\u{a9c0}\\u{aaf6}\\u{abed}\\u{10a3f}',
    '\\u{11046}\\u{11070}\\u{1107f}\\u{110b9}\\u{11133}\\u{11134}\\u{111c0}\\u{11235}\\u{112ea}\\u{1134d}',
    '\\u{11442}\\u{114c2}\\u{115bf}\\u{1163f}\\u{116b6}\\u{1172b}\\u{11839}\\u{1193d}\\u{1193e}\\u{119e0}',
    '\\u{11a34}\\u{11a47}\\u{11a99}\\u{11c3f}\\u{11d44}\\u{11d45}\\u{11d97}',
  ].join('')}]`,
  'u',
)
