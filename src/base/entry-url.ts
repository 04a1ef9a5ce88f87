/**
 * The compiled JavaScript of a module beside `importMetaUrl`, for worker threads and child processes. Under the test runner
 * modules are loaded from their TypeScript source while workers need JavaScript: then the build output in dist/ is meant.
 */
export function compiledEntry(importMetaUrl: string, relative: string): URL {
  const url = new URL(relative, importMetaUrl);
  if (!importMetaUrl.endsWith('.ts')) return url;
  const root = new URL('../../', import.meta.url).pathname; // this file is src/base/entry-url.ts
  return new URL(`file://${root}dist/${url.pathname.slice(root.length)}`);
}
