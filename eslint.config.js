import { defineConfig, globalIgnores } from 'eslint/config'
import tseslint from 'typescript-eslint'

// The house (ARCHITECTURE.md): which room may import which. Imports point down the picture only.
const rooms = {
  core: [],
  socket: ['core'],
  utp: ['core', 'socket'],
  stun: ['core', 'socket'],
  turn: ['core', 'socket', 'stun'],
  ice: ['core', 'socket', 'stun', 'turn'],
  portmap: ['core', 'socket'],
  mdns: ['core'],
  sim: ['core'],
  lab: ['core', 'socket', 'sim'],
  network: ['core', 'socket', 'utp', 'stun', 'turn', 'ice', 'portmap', 'mdns'],
  directory: ['core', 'network'],
  cli: ['core', 'socket', 'utp', 'stun', 'turn', 'ice', 'portmap', 'sim', 'lab', 'network', 'directory'],
}

// A room's own folders may import each other: what leaves the room starts with as many `../` as the file is deep.
const downOnly = Object.entries(rooms).flatMap(([room, below]) =>
  [1, 2, 3].map((depth) => ({
    files: [`src/${room}/${'*/'.repeat(depth - 1)}*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              regex: `^(\\.\\./){${depth},}(?!(${[...below, room].join('|')})/)[a-z]+/`,
              message: `src/${room} may import only: ${below.join(', ') || 'nothing'} (see ARCHITECTURE.md).`,
            },
            {
              regex: `^(\\.\\./){${depth}}index\\.ts$`,
              message: 'The package entry is for users, not for rooms.',
            },
          ],
        },
      ],
    },
  })),
)

// Protocol code has no socket, clock, timer or ambient randomness. The files named here are its drivers.
const sansIo = {
  files: [
    'src/utp/**/*.ts',
    'src/stun/**/*.ts',
    'src/turn/**/*.ts',
    'src/ice/**/*.ts',
    'src/portmap/**/*.ts',
    'src/mdns/**/*.ts',
  ],
  ignores: ['src/*/driver/**/*.ts'],
  rules: {
    'no-restricted-globals': [
      'error',
      ...['setTimeout', 'setInterval', 'setImmediate', 'performance', 'process'].map((name) => ({
        name,
        message: 'Protocol code takes time as an argument and owns no timer.',
      })),
    ],
    'no-restricted-properties': [
      'error',
      { object: 'Date', property: 'now', message: 'Protocol code takes time as an argument.' },
      { object: 'Math', property: 'random', message: 'Protocol code takes an Rng.' },
    ],
  },
}

export default defineConfig(
  globalIgnores(['dist/', 'node_modules/', 'tmp/']),
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js', 'scripts/*.mjs'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      'max-lines': ['error', { max: 500, skipBlankLines: true, skipComments: true }],
    },
  },
  ...downOnly,
  // Programs that use natwork as its users have it; nothing imports them.
  {
    files: ['src/lab/matrix/adapters/natwork.ts', 'src/lab/failures/node.ts'],
    rules: { 'no-restricted-imports': 'off' },
  },
  sansIo,
  // Every command starts by loading all of these files: what only one of them needs, it loads when it runs.
  {
    files: ['src/cli/commands/*.ts'],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              regex: '/(directory|network|turn|ice|portmap)/index\\.ts$',
              allowTypeImports: true,
              message: 'Load it in the action, by `await import()`: other commands should not wait for it.',
            },
          ],
        },
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      // node:test returns promises that the runner itself awaits.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', name: ['test', 'it', 'describe', 'suite'], package: 'node:test' },
          ],
        },
      ],
      '@typescript-eslint/no-non-null-assertion': 'off',
      'max-lines': 'off',
    },
  },
  { files: ['**/*.js', '**/*.mjs'], extends: [tseslint.configs.disableTypeChecked] },
)
