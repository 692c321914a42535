import { natwork } from './natwork.ts'

export const peer = natwork('natwork (ledbat)', 'native', 'ledbat')
