// What goes with a product: the inventory knows what is similar, this service picks three of it.
"use strict";

const http = require("node:http");

const inventory = new URL(process.env.INVENTORY_URL);
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

function similar(product) {
  return new Promise((resolve, reject) => {
    const request = http.get(
      { host: inventory.hostname, port: inventory.port, path: `/similar/${product}`, agent, timeout: 5000 },
      (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => {
          if (response.statusCode !== 200) return reject(new Error(`inventory answered ${response.statusCode}`));
          resolve(JSON.parse(Buffer.concat(chunks).toString()));
        });
      },
    );
    request.on("timeout", () => request.destroy(new Error("inventory did not answer")));
    request.on("error", reject);
  });
}

function pick(products, count) {
  const rest = [...products];
  const picked = [];
  while (rest.length && picked.length < count) {
    picked.push(rest.splice(Math.floor(Math.random() * rest.length), 1)[0]);
  }
  return picked;
}

function answer(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}

const server = http.createServer(async (request, response) => {
  const match = /^\/recommendations\/(\d{1,9})$/.exec(request.url);
  if (!match) return answer(response, 404, { error: "no such page" });
  try {
    answer(response, 200, pick(await similar(match[1]), 3));
  } catch (error) {
    answer(response, 503, { error: String(error.message) });
  }
});

server.keepAliveTimeout = 3600_000;
server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
