import { createRequire } from 'node:module';

/** better-sqlite3, required: an `import` of a CommonJS package has Node scan its source for names first, which takes as long again as loading it. */
export const Database = createRequire(import.meta.url)('better-sqlite3') as typeof import('better-sqlite3');
