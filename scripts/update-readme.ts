/** Writes the options table into README.md. A unit test fails while they differ. */
import { readFileSync, writeFileSync } from 'node:fs';
import { optionsTable } from '../src/cli/options.js';

const file = new URL('../../README.md', import.meta.url);
const before = readFileSync(file, 'utf8');
writeFileSync(file, before.replace(/(<!-- options -->\n)[\s\S]*?(\n<!-- \/options -->)/, (_, start: string, end: string) => `${start}${optionsTable()}${end}`));
