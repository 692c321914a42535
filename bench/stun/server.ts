// Our server as a process of its own, for main.ts: `server.ts PORT`.
import { StunService } from '../../src/stun/driver/service.ts'

await StunService.listen({ host: '127.0.0.1', port: Number(process.argv[2]), tcp: false, rateLimit: false })
