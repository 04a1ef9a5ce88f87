/**
 * What a file system should be, said as plainly as possible: nodes in memory, and the errors POSIX asks for. No caches, no S3, no time
 * but what `utimens` set.
 */
/**
 * `isForeign`: made by another client, so that its object may lack our metadata. `since`: what it held when it was last *journaled*, and everything it held
 * after that, the present included.
 */
export interface FileNode { kind: 'file'; content: Buffer; since: Buffer[]; mode: number; mtimeSec: number | undefined; xattrs: Map<string, string>; isForeign?: boolean }
export interface DirNode { kind: 'dir'; children: Map<string, Node>; mode: number }
export interface LinkNode { kind: 'symlink'; target: string }
export interface FifoNode { kind: 'fifo'; mode: number }
export type Node = FileNode | DirNode | LinkNode | FifoNode;

export class Refused extends Error {
  constructor(readonly errno: string) { super(errno); }
}

export class PlainTree {
  constructor(readonly root: DirNode = { kind: 'dir', children: new Map(), mode: 0o755 }) {}

  /** Every path but the root's, parents first. */
  paths(want: (node: Node) => boolean = () => true): string[] {
    const all: string[] = [];
    const visit = (dir: DirNode, prefix: string): void => {
      for (const [name, node] of dir.children) {
        if (want(node)) all.push(prefix + name);
        if (node.kind === 'dir') visit(node, `${prefix}${name}/`);
      }
    };
    visit(this.root, '');
    return all;
  }

  get(path: string): Node | undefined {
    let node: Node | undefined = this.root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      if (node?.kind !== 'dir') return undefined;
      node = node.children.get(name);
    }
    return node;
  }

  file(path: string): FileNode {
    const node = this.must(path);
    if (node.kind !== 'file') throw new Error(`${path} is no file`);
    return node;
  }

  must(path: string): Node {
    const node = this.get(path);
    if (!node) throw new Refused('ENOENT');
    return node;
  }

  parent(path: string): { dir: DirNode; name: string } {
    const at = path.lastIndexOf('/');
    const dir = this.get(at < 0 ? '' : path.slice(0, at));
    if (!dir) throw new Refused('ENOENT');
    if (dir.kind !== 'dir') throw new Refused('ENOTDIR');
    return { dir, name: path.slice(at + 1) };
  }

  nlink(node: Node): number {
    return this.paths((other) => other === node).length;
  }

  add(path: string, node: Node): void {
    const { dir, name } = this.parent(path);
    if (dir.children.has(name)) throw new Refused('EEXIST');
    dir.children.set(name, node);
  }

  unlink(path: string): void {
    const { dir, name } = this.parent(path);
    if (this.must(path).kind === 'dir') throw new Refused('EISDIR');
    dir.children.delete(name);
  }

  rmdir(path: string): void {
    const { dir, name } = this.parent(path);
    const node = this.must(path);
    if (node.kind !== 'dir') throw new Refused('ENOTDIR');
    if (node.children.size > 0) throw new Refused('ENOTEMPTY');
    dir.children.delete(name);
  }

  rename(path: string, newPath: string, mode: 'plain' | 'noreplace' | 'exchange'): void {
    const from = this.parent(path);
    const to = this.parent(newPath);
    const node = this.must(path);
    const other = to.dir.children.get(to.name);
    if (other && mode === 'noreplace') throw new Refused('EEXIST');
    if (!other && mode === 'exchange') throw new Refused('ENOENT');
    if (node === other) return;
    if (node.kind === 'dir' && isWithin(to.dir, node)) throw new Refused('EINVAL');
    if (mode === 'exchange') {
      if (other!.kind === 'dir' && isWithin(from.dir, other!)) throw new Refused('EINVAL');
      from.dir.children.set(from.name, other!);
    } else {
      if (other && node.kind === 'dir' && other.kind !== 'dir') throw new Refused('ENOTDIR');
      if (other && node.kind !== 'dir' && other.kind === 'dir') throw new Refused('EISDIR');
      if (other?.kind === 'dir' && other.children.size > 0) throw new Refused('ENOTEMPTY');
      from.dir.children.delete(from.name);
    }
    to.dir.children.set(to.name, node);
  }
}

export function newFile(mode = 0o644): FileNode {
  const content = Buffer.alloc(0);
  return { kind: 'file', content, since: [content], mode, mtimeSec: undefined, xattrs: new Map() };
}

export function write(file: FileNode, offset: number, data: Buffer): void {
  if (data.length === 0) return;
  const size = Math.max(file.content.length, offset + data.length);
  const content = Buffer.alloc(size);
  file.content.copy(content);
  data.copy(content, offset);
  changed(file, content);
}

function changed(file: FileNode, content: Buffer): void {
  file.content = content;
  file.since.push(content);
  file.mtimeSec = undefined;
}

/** Of what it holds no byte can be lost any more. */
export function journal(file: FileNode): void {
  file.since = [file.content];
}

export function resize(file: FileNode, sizeBytes: number): void {
  const content = Buffer.alloc(sizeBytes);
  file.content.copy(content, 0, 0, sizeBytes);
  changed(file, content);
}

/** fallocate(2) as ext4 has it. */
export function allocate(file: FileNode, kind: 'extend' | 'keep size' | 'punch' | 'zero' | 'collapse' | 'insert', offset: number, length: number): void {
  const content = Buffer.alloc(Math.max(file.content.length, kind === 'extend' || kind === 'zero' ? offset + length : 0));
  file.content.copy(content);
  const end = Math.min(offset + length, content.length);
  switch (kind) {
    case 'extend': case 'keep size': return changed(file, content);
    case 'punch': case 'zero': return changed(file, offset < end ? content.fill(0, offset, end) : content);
    case 'collapse':
      if (offset + length >= content.length) throw new Refused('EINVAL');
      return changed(file, Buffer.concat([content.subarray(0, offset), content.subarray(offset + length)]));
    case 'insert':
      if (offset >= content.length) throw new Refused('EINVAL');
      return changed(file, Buffer.concat([content.subarray(0, offset), Buffer.alloc(length), content.subarray(offset)]));
  }
}

function isWithin(dir: Node, ancestor: DirNode): boolean {
  if (dir === ancestor) return true;
  return [...ancestor.children.values()].some((child) => child.kind === 'dir' && isWithin(dir, child));
}
