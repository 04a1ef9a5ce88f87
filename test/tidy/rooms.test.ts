import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { mayImport, mayTouch, type Room } from './rooms.js';

const root = path.resolve(import.meta.dirname, '../..');

function sources(...folders: string[]): { name: string; text: string }[] {
  return folders.flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => ({ name: path.join(folder, name), text: readFileSync(path.join(root, folder, name), 'utf8') })),
  );
}
const src = sources('src');
const product = src.filter((file) => !file.name.endsWith('.test.ts') && !path.basename(file.name).startsWith('fake-'));
const roomOf = (name: string): string => name.split('/')[1]!;

/** Everything a file imports: static, dynamic, re-exported, type-only. */
function imports(text: string): string[] {
  return [...withoutComments(text).matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|^\s*import\s+)(['"])([^'"]+)\1/gm)].map((match) => match[2]!);
}

/** Good enough for our own source: no regular expression or text there holds a comment's beginning that matters. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[\s;{}(,])\/\/.*$/gm, '$1');
}

function offences(files: readonly { name: string; text: string }[], pattern: RegExp, allowed: readonly string[]): string[] {
  return files
    .filter(({ name }) => !allowed.includes(roomOf(name)) && !allowed.includes(name.slice('src/'.length)))
    .filter(({ text }) => pattern.test(withoutComments(text)))
    .map(({ name }) => name);
}

describe('the house', () => {
  it('has no room outside the table, and no rule for a room that may import itself or a stranger', () => {
    const rooms = Object.keys(mayImport);
    expect([...new Set(src.map((file) => roomOf(file.name)))].filter((room) => !rooms.includes(room))).toEqual([]);
    for (const [room, others] of Object.entries(mayImport)) {
      for (const other of others) expect(rooms, `${room} may import ${other}`).toContain(other);
      expect(others).not.toContain(room);
    }
  });

  it('has imports that flow one way: the table has no cycle', () => {
    const done = new Set<string>();
    const visit = (room: Room, trail: readonly string[]): void => {
      if (done.has(room)) return;
      expect(trail, 'a cycle of rooms').not.toContain(room);
      for (const next of mayImport[room]) visit(next, [...trail, room]);
      done.add(room);
    };
    for (const room of Object.keys(mayImport) as Room[]) visit(room, []);
    expect(done.size).toBe(Object.keys(mayImport).length);
  });

  it('imports only what the table allows', () => {
    const wrong: string[] = [];
    for (const { name, text } of src) {
      const room = roomOf(name) as Room;
      for (const specifier of imports(text).filter((one) => one.startsWith('.'))) {
        const target = path.relative(path.join(root, 'src'), path.resolve(root, path.dirname(name), specifier));
        const isTest = name.endsWith('.test.ts');
        if (target.startsWith('..')) {
          if (!isTest) wrong.push(`${name} imports ${specifier}, outside src/`);
          continue;
        }
        const other = target.split('/')[0]!;
        // Tests may build on the rooms below the ones they test, with fakes of those.
        if (other !== room && !(mayImport[room] as readonly string[]).includes(other) && !isTest) wrong.push(`${name} imports ${specifier}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('imports with .js endings, and no barrels', () => {
    const wrong = src.flatMap(({ name, text }) => imports(text).filter((one) => one.startsWith('.') && !/\.(js|json)$/.test(one)).map((one) => `${name}: ${one}`));
    expect(wrong).toEqual([]);
    expect(src.map((file) => path.basename(file.name)).filter((name) => name === 'index.ts')).toEqual([]);
  });

  it('takes nothing from fuse/ into fs/ but the types of ops.ts', () => {
    const wrong = product
      .filter(({ name }) => roomOf(name) === 'fs')
      .flatMap(({ name, text }) => imports(text).filter((one) => one.includes('/fuse/') && !one.endsWith('/fuse/ops.js')).map((one) => `${name}: ${one}`));
    expect(wrong).toEqual([]);
  });

  it('keeps files below 500 lines and named in kebab-case', () => {
    const all = [...src, ...sources('test', 'scripts')];
    expect(all.filter(({ text }) => text.split('\n').length > 501).map(({ name, text }) => `${name}: ${text.split('\n').length} lines`)).toEqual([]);
    expect(all.map(({ name }) => path.basename(name)).filter((name) => !/^[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.ts$/.test(name))).toEqual([]);
  });

  it('reads clock, chance, environment and files only where that is allowed (smell 8)', () => {
    expect({
      time: offences(product, /\bDate\.now\(|\bnew Date\(\)/, mayTouch.time),
      chance: offences(product, /\bMath\.random\b/, mayTouch.chance),
      environment: offences(product, /\bprocess\.env\b/, mayTouch.environment),
      files: offences(product, /from ['"](?:node:)?fs(?:\/promises)?['"]/, mayTouch.files),
    }).toEqual({ time: [], chance: [], environment: [], files: [] });
  });

  it('tells behaviour by kinds, never by message texts (smell 2)', () => {
    expect(offences(product, /\.message\.(?:includes|match|startsWith|endsWith)\(/, [])).toEqual([]);
  });

  it('has no test that is switched off or runs alone, and no loose end', () => {
    const all = [...src, ...sources('test', 'scripts')].filter(({ name }) => !name.startsWith('test/tidy/'));
    expect(all.filter(({ text }) => /\b(?:it|test|describe)(?:\.\w+)*\.only\b|\bf(?:it|describe)\(/.test(text)).map(({ name }) => name)).toEqual([]);
    expect(all.filter(({ text }) => /\b(?:TODO|FIXME|XXX|HACK)\b/.test(text)).map(({ name }) => name)).toEqual([]);
    expect(all.filter(({ text }) => /@ts-(?:ignore|nocheck)/.test(text)).map(({ name }) => name)).toEqual([]);
  });
});
