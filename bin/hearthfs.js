#!/usr/bin/env node
import { existsSync } from 'node:fs';
const entry = new URL('../dist/bundle/main.js', import.meta.url);
if (existsSync(entry)) {
  const { main } = await import(entry.href);
  process.exitCode = await main(process.argv.slice(2));
} else {
  process.stderr.write('hearthfs: it is not built yet; run `npm ci && npm run build` in its directory\n');
  process.exitCode = 1;
}
