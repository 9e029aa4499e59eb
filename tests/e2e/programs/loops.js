// Loops that serve: the main one, and `argv[2]` worker threads. GET /r/ID asks the backend at the port argv[3] for
// /b/ID by a pool of two connections with a queue; then it answers.
const http = require('http');
const { Worker, isMainThread, workerData } = require('worker_threads');
const [workers, backend] = isMainThread ? process.argv.slice(2).map(Number) : [0, workerData];
const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
const server = http.createServer((request, response) => {
  const path = request.url.replace('/r/', '/b/');
  http.get({ host: '127.0.0.1', port: backend, path, agent }, (answer) => {
    answer.resume();
    answer.on('end', () => response.end('ok'));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
for (let i = 0; i < workers; i++) new Worker(__filename, { workerData: backend });
