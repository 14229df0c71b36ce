/** What somebody takes who takes one policy: how much code, and whose. Measured by a bundler on the sources. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { after, test } from "node:test";
import { build, stop } from "esbuild-wasm";

after(() => stop());

async function bundled(contents: string): Promise<{ readonly gzipBytes: number; readonly imports: readonly string[]; readonly files: readonly string[] }> {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: fileURLToPath(new URL(".", import.meta.url)), loader: "ts" },
    bundle: true,
    minify: true,
    format: "esm",
    platform: "node",
    target: "node24",
    write: false,
    metafile: true,
  });
  const [output] = Object.values(metafile.outputs);
  assert.ok(outputFiles[0] && output);
  return {
    gzipBytes: gzipSync(outputFiles[0].contents, { level: 9 }).length,
    imports: output.imports.map(({ path }) => path),
    files: Object.entries(output.inputs).flatMap(([path, { bytesInOutput }]) => (bytesInOutput > 0 ? [path] : [])),
  };
}

test("retry alone is less than 4.9 kB when minified and compressed, and all of resilience less than 19.4 kB", async () => {
  const alone = await bundled('export { retry } from "./index.ts"');
  const all = await bundled('export * from "./index.ts"');

  assert.ok(alone.gzipBytes > 1_000 && alone.gzipBytes < 4_900, `retry alone: ${alone.gzipBytes} B`);
  assert.ok(all.gzipBytes > alone.gzipBytes && all.gzipBytes < 19_400, `all: ${all.gzipBytes} B`);
  // Who retries gets no breaker, bulkhead or line with it.
  assert.deepEqual(
    alone.files.filter((path) => /(breaker|bulkhead|hedge|fallback|waiting-line|fair-order|passage|pipeline|timing-wheel)\.ts$/.test(path)),
    [],
  );
});

test("resilience needs nothing but Node: no dependency, no store, no app", async () => {
  const { imports, files } = await bundled('export * from "./index.ts"');

  assert.ok(files.length >= 20, `only ${files.length} files were looked at`);
  assert.deepEqual(
    imports.filter((path) => !path.startsWith("node:")),
    [],
  );
  assert.deepEqual(
    files.filter((path) => !/(^|\/)(kernel|resilience)\/[\w-]+\.ts$/.test(path) && path !== "<stdin>"),
    [],
  );
});
