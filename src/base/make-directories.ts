import fs from 'node:fs';
import path from 'node:path';
import { errorCode } from './errno.js';

/** `mkdir -p`. Node's own never returns where a directory exists and refuses new names with ENOENT, as /proc does. */
export function makeDirectories(dir: string, mode = 0o777): void {
  if (makeOne(dir, mode)) return;
  makeDirectories(path.dirname(dir), mode);
  if (!makeOne(dir, mode)) fs.mkdirSync(dir, { mode }); // says why
}

/** False if the parent is missing. Throws EEXIST where something else is in the way. */
function makeOne(dir: string, mode: number): boolean {
  try {
    fs.mkdirSync(dir, { mode });
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' && path.dirname(dir) !== dir) return false;
    if (errorCode(error) === 'EEXIST' && fs.statSync(dir).isDirectory()) return true;
    if (errorCode(error) === 'EROFS' && fs.statSync(dir, { throwIfNoEntry: false })?.isDirectory()) return true;
    throw error;
  }
}
