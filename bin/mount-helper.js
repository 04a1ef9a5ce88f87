import { existsSync } from 'node:fs';
const built = new URL('../dist/bundle/', import.meta.url);
if (existsSync(new URL('main.js', built))) {
  const { main } = await import(new URL('main.js', built).href);
  const { mountHelper } = await import(new URL('mount-helper.js', built).href);
  process.exitCode = await mountHelper(process.argv.slice(2), main, (text) => process.stderr.write(text));
} else {
  process.stderr.write('mount.fuse.hearthfs: hearthfs is not built; run `npm ci && npm run build` in its directory\n');
  process.exitCode = 32;
}
