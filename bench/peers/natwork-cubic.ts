import { natwork } from './natwork.ts'

export const peer = natwork('natwork (cubic)', 'native', 'cubic')
