import { NatworkError, SystemError, type Code } from '../core/index.ts'

/** A failed system call as one line: what we wanted, why it failed, what to do about it. */
export function systemError(code: Code, wanted: string, cause: unknown): SystemError {
  const errno = errnoOf(cause)
  const known = errno === undefined ? undefined : reasons[errno]
  const reason = known ?? (cause instanceof Error ? cause.message : String(cause))
  return new SystemError(code, `${wanted}: ${reason}`, { cause })
}

/** One of ours: what happened is understood and said. Everything else is a mistake in the program. */
export function asNatworkError(error: unknown): NatworkError | undefined {
  return error instanceof NatworkError ? (error as NatworkError) : undefined
}

/** `ENOENT`, `EADDRINUSE`, …; undefined when it was no system call that failed. */
export function errnoOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied; check who owns it, or run as a user who may',
  EADDRINUSE: 'another program uses that port; choose another (0 takes any free one), or stop that program',
  EADDRNOTAVAIL: 'this machine has no such address; 127.0.0.1 or 0.0.0.0 always work',
  EDQUOT: 'your disk quota is used up; free some space and try again',
  EISDIR: 'it is a folder, not a file',
  EMFILE: 'too many open files; raise the limit with `ulimit -n`',
  ENOENT: 'there is no such file or folder',
  ENOSPC: 'the disk is full; free some space and try again (nothing stored before is lost)',
  ENOTDIR: 'a part of that path is a file, not a folder',
  EROFS: 'the file system is read-only; point XDG_STATE_HOME to one that is not',
}
