import { readFileSync } from 'node:fs';

/** The package's version; package.json is three levels up from dist/src/daemon and two from src/daemon. */
export const version: string = (() => {
  for (const path of ['../../../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      continue;
    }
  }
  return 'unknown';
})();
