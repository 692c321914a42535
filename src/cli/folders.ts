import { mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { systemError } from './errors.ts'

/** Where natwork keeps its things (XDG Base Directory Specification 0.8). All are folders of natwork's own. */
export interface Folders {
  /** What the user writes: `config.yaml`. */
  readonly config: string
  /** What natwork writes: the key, the directory of nodes, what is shared. Belongs to this machine. */
  readonly state: string
  /** The control socket. Gone after a reboot. */
  readonly runtime: string
}

/** The folders that the environment names. Relative paths are ignored, as the specification asks. */
export function findFolders(env: NodeJS.ProcessEnv): Folders {
  const home = env['HOME'] ?? homedir()
  const base = (name: string): string | undefined => {
    const path = env[name]
    return path !== undefined && isAbsolute(path) ? join(path, 'natwork') : undefined
  }
  const state = base('XDG_STATE_HOME') ?? join(home, '.local/state/natwork')
  return {
    config: base('XDG_CONFIG_HOME') ?? join(home, '.config/natwork'),
    state,
    // Without a session (a service, a container) nothing sets XDG_RUNTIME_DIR.
    runtime: base('XDG_RUNTIME_DIR') ?? state,
  }
}

/** The Unix socket of the node that runs here. */
export const controlPath = ({ runtime }: Folders): string => join(runtime, 'control.sock')

/** The private key of this node, PEM. */
export const keyPath = ({ state }: Folders): string => join(state, 'key.pem')

/**
 * Makes a folder that nobody else can look into (mode 0700).
 *
 * @throws {SystemError} `ERR_NATWORK_FOLDER`
 */
export function makePrivateFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw systemError('ERR_NATWORK_FOLDER', `cannot make the folder ${path}`, error)
  }
}
