// A service that turns GET /r/TOKEN?k=K&par=0|1 into K calls GET http://BACKEND/b/TOKEN/I, in the ways that Node services do.
// node server.cjs --port P --backend HOST:PORT [--style fetch|agent|fresh|workers] [--sockets 8] [--think MS]
//   [--line first|last]
//   fetch: the global fetch (undici). agent: http.get over an Agent that keeps SOCKETS connections alive and queues what
//   is more. fresh: http.get without keep-alive. workers: the calls are made by fetch in worker threads.
// think: each call waits for a timer of so many milliseconds first.
// line: of calls beyond SOCKETS the program has a line of its own, from which it takes the first or the last.
'use strict'
const http = require('node:http')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')

const options = isMainThread ? parse(process.argv.slice(2)) : workerData
const agent = new http.Agent({ keepAlive: options.style !== 'fresh', maxSockets: Number(options.sockets) })

function parse (words) {
  const found = { style: 'fetch', sockets: '8', think: '0', workers: '2' }
  for (let i = 0; i + 1 < words.length; i += 2) found[words[i].replace(/^--/, '')] = words[i + 1]
  return found
}

function get (path) {
  const [host, port] = options.backend.split(':')
  return new Promise((resolve, reject) => {
    http.get({ host, port, path, agent }, (response) => {
      response.resume()
      response.on('end', () => response.statusCode === 200 ? resolve() : reject(new Error(`backend: ${response.statusCode}`)))
      response.on('error', reject)
    }).on('error', reject)
  })
}

async function call (path) {
  if (options.think > 0) await new Promise((resolve) => setTimeout(resolve, Number(options.think)))
  if (options.style === 'agent' || options.style === 'fresh') return get(path)
  const response = await fetch(`http://${options.backend}${path}`)
  await response.text()
  if (!response.ok) throw new Error(`backend: ${response.status}`)
}

const waiting = []
let running = 0

async function limited (path) {
  if (running >= Number(options.sockets)) await new Promise((resolve) => waiting.push(resolve))
  else running++
  try {
    await call(path)
  } finally {
    const next = options.line === 'last' ? waiting.pop() : waiting.shift()
    if (next) next()
    else running--
  }
}

async function calls (token, k, parallel) {
  const paths = Array.from({ length: k }, (_, i) => `/b/${token}/${i}`)
  const one = options.line ? limited : call
  if (parallel) await Promise.all(paths.map(one))
  else for (const path of paths) await one(path)
}

function main () {
  let handle = calls
  if (options.style === 'workers') {
    const waiting = new Map()
    let tickets = 0
    const workers = Array.from({ length: Number(options.workers) }, () => {
      const worker = new Worker(__filename, { workerData: options })
      worker.on('message', ({ ticket, error }) => {
        const [resolve, reject] = waiting.get(ticket)
        waiting.delete(ticket)
        if (error) reject(new Error(error))
        else resolve()
      })
      return worker
    })
    handle = (token, k, parallel) => new Promise((resolve, reject) => {
      const ticket = tickets++
      waiting.set(ticket, [resolve, reject])
      workers[ticket % workers.length].postMessage({ ticket, token, k, parallel })
    })
  }
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, 'http://here')
    const k = Math.min(64, Number(url.searchParams.get('k') ?? 1))
    handle(url.pathname.slice('/r/'.length), k, url.searchParams.get('par') === '1').then(
      () => response.end('ok\n'),
      (error) => { response.statusCode = 502; response.end(`${error}\n`) })
  })
  server.keepAliveTimeout = 60000
  server.listen(Number(options.port), '127.0.0.1')
}

if (isMainThread) main()
else {
  parentPort.on('message', ({ ticket, token, k, parallel }) => {
    calls(token, k, parallel).then(() => parentPort.postMessage({ ticket }),
      (error) => parentPort.postMessage({ ticket, error: String(error) }))
  })
}
