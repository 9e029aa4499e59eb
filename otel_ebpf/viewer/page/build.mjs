// Bundles the page: src/ → ../_page/ {index.html, app-HASH.js, app-HASH.css}; another folder by --output DIR.
// With --tests: tests/*.test.ts → build/tests/, for node's own test runner.
import { build } from "esbuild";
import { cpSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));

/** The page whole or not at all: built beside `output`, then moved there. */
export async function buildPage(output, { minify = true, sourcemap = false } = {}) {
  const partial = `${output}.partial`;
  rmSync(partial, { recursive: true, force: true });
  const result = await build({
    absWorkingDir: HERE,
    entryPoints: [{ in: "src/main.tsx", out: "app" }],
    entryNames: "[name]-[hash]",
    outdir: partial,
    bundle: true,
    format: "esm",
    target: ["es2022"],
    jsx: "automatic",
    jsxImportSource: "preact",
    minify,
    sourcemap: sourcemap ? "inline" : false,
    legalComments: "eof",
    define: { "process.env.NODE_ENV": '"production"' },
    metafile: true,
    logLevel: "warning",
  });
  const names = Object.keys(result.metafile.outputs).map((path) => basename(path));
  const index = readFileSync(join(HERE, "src/index.html"), "utf8")
    .replace("app.js", names.find((name) => name.endsWith(".js")))
    .replace("app.css", names.find((name) => name.endsWith(".css")));
  writeFileSync(join(partial, "index.html"), index);
  cpSync(join(HERE, "src/icon.svg"), join(partial, "icon.svg"));
  rmSync(output, { recursive: true, force: true });
  renameSync(partial, output);
}

async function buildTests() {
  const outdir = join(HERE, "build/tests");
  rmSync(outdir, { recursive: true, force: true });
  mkdirSync(outdir, { recursive: true });
  await build({
    absWorkingDir: HERE,
    entryPoints: readdirSync(join(HERE, "tests")).filter((name) => name.endsWith(".test.ts")).map((name) => `tests/${name}`),
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
    logLevel: "warning",
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const at = process.argv.indexOf("--output");
  if (process.argv.includes("--tests")) await buildTests();
  else await buildPage(at > 0 ? process.argv[at + 1] : join(HERE, "../_page"));
}
