/** More numbers of UDP that are tried. */
const TRIES = 5

/**
 * Where a service's TCP port is to have whatever number the system gave its UDP port, another program may have that one: then
 * all is opened again, for another number.
 *
 * @param open closes what it has opened when it throws.
 * @param isShared false: what is taken was asked for, and the first error holds.
 */
export async function withSharedNumber<T>(open: () => Promise<T>, isShared: boolean): Promise<T> {
  for (let left = isShared ? TRIES : 0; ; left--) {
    try {
      return await open()
    } catch (error) {
      if (left === 0 || !isTaken(error)) throw error
    }
  }
}

function isTaken(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE'
}
