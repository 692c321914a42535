/** Up to so many bytes a loop is faster than the view that {@link Uint8Array.set} wants of its source. */
const FEW = 64

/** Copies `size` bytes of `source` from `from` on to `at` in `target`. */
export function copy(source: Uint8Array, from: number, size: number, target: Uint8Array, at: number): void {
  if (size > FEW) {
    target.set(source.subarray(from, from + size), at)
    return
  }
  for (let i = 0; i < size; i++) target[at + i] = source[from + i] as number
}
