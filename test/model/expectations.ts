/** What must be equal: the tree as it is shown, what S3 holds, and what a mount that knows nothing shows. */
import { expect } from 'vitest';
import { FileType } from '../../src/meta/inode.js';
import type { FsHarness } from '../support/fs-harness.js';
import { foreignDirectory, foreignNames, join, type Model } from './model.js';
import type { Node } from './plain-tree.js';

export function endOutage(model: Model, real: FsHarness): void {
  model.offline = false;
  real.setOffline(false);
}

export function expectBytes(got: Buffer, wanted: Buffer, what: string): void {
  if (got.equals(wanted)) return;
  const at = [...got].findIndex((byte, index) => byte !== wanted[index]);
  expect.fail(`${what}: ${got.length} bytes, wanted ${wanted.length}, first difference at ${at < 0 ? Math.min(got.length, wanted.length) : at}`);
}

/** The real tree shows what the plain one holds; names of strangers apart, which come and go with the TTL. */
export async function expectTree(model: Model, real: FsHarness, options: { content: boolean }): Promise<void> {
  real.faulty.clear();
  const visit = async (path: string, node: Node): Promise<void> => {
    if (node.kind === 'symlink') {
      expect(await real.readlink(path), path).toBe(node.target);
      return;
    }
    if (node.kind === 'fifo') expect((await real.getattr(path)).mode, `mode of ${path}`).toBe(FileType.FIFO | node.mode);
    if (node.kind === 'fifo') return;
    const attr = await real.getattr(path);
    if (path !== '') expect(attr.mode & 0o7777, `mode of ${path}`).toBe(node.mode);
    if (node.kind === 'file') {
      expect(attr.mode >> 12, `type of ${path}`).toBe(0o10);
      expect(attr.sizeBytes, `size of ${path}`).toBe(node.content.length);
      expect(attr.nlink, `links of ${path}`).toBe(model.tree.nlink(node));
      if (node.mtimeSec !== undefined) expect(attr.mtime, `mtime of ${path}`).toEqual({ sec: node.mtimeSec, nsec: 5 });
      if (options.content) expectBytes(await real.readBytes(path), node.content, path);
      for (const [name, value] of node.xattrs) expect(await real.getxattr(path, name), `${name} of ${path}`).toBe(value);
      expect((await real.listxattr(path)).sort(), `xattrs of ${path}`).toEqual([...node.xattrs.keys()].sort());
      return;
    }
    const names = (await real.readdir(path)).filter((name) => path !== '' || (name !== foreignDirectory && !foreignNames.includes(name)));
    expect(names, `names in /${path}`).toEqual([...node.children.keys()].sort());
    for (const [name, child] of node.children) await visit(join(path, name), child);
  };
  await visit('', model.tree.root);
  for (const { node, handle } of model.handles) {
    const attr = await real.fstat(handle);
    expect(attr.sizeBytes, 'size of an open file').toBe(node.content.length);
  }
}

/** After the TTL, strangers' objects are shown as they are. */
export async function expectForeign(model: Model, real: FsHarness): Promise<void> {
  real.faulty.clear();
  real.clock.advance(real.daemon.config.ttlMs! + 1000);
  const inDirectory = [...model.foreign.keys()].filter((key) => key.startsWith(`${foreignDirectory}/`)).map((key) => key.slice(2));
  const names = await real.readdir('');
  expect(names.filter((name) => foreignNames.includes(name))).toEqual([...model.foreign.keys()].filter((key) => foreignNames.includes(key)).sort());
  expect(names.includes(foreignDirectory)).toBe(inDirectory.length > 0);
  if (inDirectory.length > 0) expect(await real.readdir(foreignDirectory)).toEqual(inDirectory.sort());
  for (const [key, text] of model.foreign) expect(await real.readFile(key), key).toBe(text);
}

/** S3 holds the tree, and nothing else. */
export function expectStore(model: Model, real: FsHarness): void {
  const objects = real.memory.snapshot();
  const wanted = new Map<string, Node>();
  for (const path of model.tree.paths()) {
    const node = model.tree.must(path);
    wanted.set(node.kind === 'dir' ? `${path}/` : path, node);
  }
  const ours = [...objects.keys()].filter((key) => !model.foreign.has(key));
  expect(ours.sort()).toEqual([...wanted.keys()].sort());
  for (const [key, node] of wanted) {
    const object = objects.get(key)!;
    if (node.kind === 'file') expectBytes(object.bytes, node.content, `object ${key}`);
    else expect(object.bytes.toString(), `object ${key}`).toBe(node.kind === 'symlink' ? node.target : '');
    const isBare = node.kind === 'file' && node.isForeign && object.attributes.metadata['mode'] === undefined;
    if (node.kind !== 'symlink' && !isBare) expect(Number(object.attributes.metadata['mode']) & 0o7777, `mode of object ${key}`).toBe(node.mode);
  }
  for (const [key, text] of model.foreign) expect(objects.get(key)?.bytes.toString(), key).toBe(text);
  expect(real.daemon.conflicts.list()).toEqual([]);
}

export async function expectFreshMount(model: Model, real: FsHarness): Promise<void> {
  real.faulty.clear();
  await real.sync();
  const other = await real.freshMount();
  try {
    for (const path of model.tree.paths()) await other.stat(path); // the names of a hard link are one file once all were looked up (J10)
    await expectTree({ ...model, tree: model.tree, handles: [] } as unknown as Model, other, { content: true });
    expect(other.daemon.conflicts.list()).toEqual([]);
    expect(other.journal.count()).toBe(0);
    other.checkInvariants();
  } finally {
    await other.close();
  }
}
