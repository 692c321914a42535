export const targets: readonly { readonly name: string; readonly compilers: readonly string[] }[]
export function compile(compiler: string, file: string): void
export function sourceHash(): string
