import { readFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../base/project-root.js';

/** The package's version, as it was when this program was loaded. */
export const version: string = (() => {
  try {
    return (JSON.parse(readFileSync(path.join(projectRoot(), 'package.json'), 'utf8')) as { version: string }).version;
  } catch {
    return 'unknown';
  }
})();
