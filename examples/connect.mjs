// Prints what a shared web page answers: node examples/connect.mjs TICKET
import { createContext, memoryDirectory, Network, parseTicket } from 'natwork'

const ticket = parseTicket(process.argv[2])
const network = new Network(createContext({ directory: memoryDirectory() }), { port: 0 })
await network.start()
const stream = await network.connect(ticket.id, { service: ticket.service, ticket: ticket.text })
stream.end('GET / HTTP/1.0\r\n\r\n')
stream.pipe(process.stdout)
stream.on('close', () => network.stop())
