// A stand-in for the viewer while the page is developed, and for browser tests of large maps: the page built anew at
// every change, and an API of made-up, always equal numbers.
//
//     npm run dev -- [--scenario shop|large|empty|gaps|busy|hostile] [--port 8899] [--page DIR: serve this, build nothing]

import { createReadStream, existsSync, mkdtempSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildPage } from "../build.mjs";
import { answer, liveSpans, worldOf } from "./api.mjs";

const { values: options } = parseArgs({ options: {
  scenario: { type: "string", default: "shop" }, port: { type: "string", default: "8899" }, page: { type: "string" },
} });
const world = worldOf(options.scenario);
if (!world) throw new Error(`no scenario ${options.scenario}: shop, large, empty, gaps, busy or hostile`);

const SOURCES = fileURLToPath(new URL("../src", import.meta.url));
const folder = options.page ?? join(mkdtempSync(join(tmpdir(), "otel-ebpf-page-")), "page");
let built = 0;

const newest = (path) => readdirSync(path, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile()).reduce((time, entry) => Math.max(time, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs), 0);

async function fresh() {
  if (options.page || newest(SOURCES) <= built) return;
  built = Date.now();
  await buildPage(folder, { minify: false, sourcemap: true }).catch((error) => console.error(error.message));
}

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY = "default-src 'self'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'";

function file(response, path) {
  const wanted = join(folder, normalize(path));
  const found = path !== "/" && existsSync(wanted) ? wanted : join(folder, "index.html");
  response.writeHead(200, { "content-type": TYPES[extname(found)] ?? "application/octet-stream", "content-security-policy": POLICY, "cache-control": "no-cache" });
  createReadStream(found).pipe(response);
}

/** Lines come six every half second; in the scenario busy, 200 four times a second: the most that a viewer sends. */
function live(request, response, filter) {
  const wrong = /^(?!(service|protocol|peer|name|text|status|kind|error|duration)\s*[=!~<>])/.exec(filter);
  if (filter && wrong) {
    response.writeHead(400, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: `filter: '${filter.split(/\s/)[0]}' is not KEY OPERATOR VALUE like service=shop; keys: service, protocol, peer, status, duration, kind, name, text, error` }));
    return;
  }
  const busy = options.scenario === "busy";
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  const timer = setInterval(() => {
    if (world.edges.length) response.write(`event: spans\ndata: ${JSON.stringify(liveSpans(world, Date.now(), busy ? 200 : 6).filter((line) => filter !== "error=true" || line.failed))}\n\n`);
    if (busy || options.scenario === "gaps") response.write(`event: missed\ndata: ${JSON.stringify({ count: busy ? 301 : 17 })}\n\n`);
  }, busy ? 250 : 500);
  request.on("close", () => clearInterval(timer));
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (!url.pathname.startsWith("/api/v1/")) {
    await fresh();
    file(response, url.pathname);
  } else if (url.pathname === "/api/v1/live") {
    live(request, response, url.searchParams.get("q") ?? "");
  } else {
    const body = answer(options.scenario, world, url.pathname.slice("/api/v1/".length), url.searchParams);
    response.writeHead(body ? 200 : 404, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(body ?? { error: `There is nothing at ${url.pathname} in this window.` }));
  }
});
await fresh();
server.listen(Number(options.port), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/map (${options.scenario})`));
