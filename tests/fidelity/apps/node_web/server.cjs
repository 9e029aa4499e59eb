// The libraries that many Node services are made of: Express in front, and behind it axios over an Agent of 8 sockets,
// an undici Pool of 8, pg's Pool of 8 or ioredis. GET /r/TOKEN?k=K&par=0|1 makes K calls (or commands) that carry TOKEN/I.
// NODE_PATH says where the packages are. node server.cjs --port P --backend HOST:PORT --style axios|undici|pg|redis
'use strict'
const http = require('node:http')
const express = require('express')

const options = { style: 'axios' }
for (let i = 2; i + 1 < process.argv.length; i += 2) options[process.argv[i].slice(2)] = process.argv[i + 1]
const [host, port] = options.backend.split(':')

const styles = {
  axios () {
    const client = require('axios').create({
      baseURL: `http://${options.backend}`, proxy: false, httpAgent: new http.Agent({ keepAlive: true, maxSockets: 8 })
    })
    return (name) => client.get(`/b/${name}`)
  },
  undici () {
    const { Pool } = require('undici')
    const pool = new Pool(`http://${options.backend}`, { connections: 8 })
    return async (name) => {
      const { body } = await pool.request({ path: `/b/${name}`, method: 'GET' })
      await body.text()
    }
  },
  pg () {
    const { Pool } = require('pg')
    const pool = new Pool({ host, port: Number(port), user: 'postgres', database: 'postgres', max: 8 })
    return (name) => pool.query(`select '${name}', pg_sleep(${(name.length * 7 + name.charCodeAt(name.length - 3)) % 20 / 1000})`)
  },
  redis () {
    const Redis = require('ioredis')
    const client = new Redis({ host, port: Number(port), enableAutoPipelining: false })
    return (name) => client.set(name, '1')
  }
}

const call = styles[options.style]()
const app = express()
app.get(/^\/[rb]\/(.+)$/, async (request, response) => {
  const names = Array.from({ length: Math.min(64, Number(request.query.k ?? 1)) }, (_, i) => `${request.params[0]}/${i}`)
  try {
    if (request.query.par === '1') await Promise.all(names.map(call))
    else for (const name of names) await call(name)
    response.send('ok\n')
  } catch (error) {
    response.status(502).send(`${error}\n`)
  }
})
const server = app.listen(Number(options.port), '127.0.0.1')
server.keepAliveTimeout = 60000
