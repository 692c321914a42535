import { Lab, LabSystemError } from '../../src/lab/index.ts'

/**
 * Why the lab cannot run here, in one line that says what enables it; undefined where it can. Under CI it must: the
 * tests then fail instead of being skipped.
 */
export async function labUnavailable(): Promise<string | false> {
  try {
    await (await Lab.create({ sites: {} })).close()
    return false
  } catch (error) {
    if (!(error instanceof LabSystemError) || process.env['CI'] === 'true') throw error
    return error.message
  }
}
