export const debianPackages: Readonly<
  Record<
    | 'ip'
    | 'nft'
    | 'conntrack'
    | 'tcpdump'
    | 'ethtool'
    | 'cc'
    | 'turnserver'
    | 'stun'
    | 'miniupnpd'
    | 'curl'
    | 'ssh'
    | 'sshd'
    | 'nc'
    | 'psql'
    | 'postgres',
    string
  >
>
export function findProgram(name: string): string | undefined
export function installSystemPackages(): void
