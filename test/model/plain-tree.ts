/**
 * What a file system should be, said as plainly as possible: nodes in memory, and the errors POSIX asks for. No caches, no S3, no time
 * but what `utimens` set.
 */
/** `isForeign`: made by another client, so that its object may lack our metadata. */
export interface FileNode { kind: 'file'; content: Buffer; mode: number; mtimeSec: number | undefined; xattrs: Map<string, string>; isForeign?: boolean }
export interface DirNode { kind: 'dir'; children: Map<string, Node>; mode: number }
export interface LinkNode { kind: 'symlink'; target: string }
export interface FifoNode { kind: 'fifo'; mode: number }
export type Node = FileNode | DirNode | LinkNode | FifoNode;

export class Refused extends Error {
  constructor(readonly errno: string) { super(errno); }
}

export class PlainTree {
  readonly root: DirNode = { kind: 'dir', children: new Map(), mode: 0o755 };

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
  return { kind: 'file', content: Buffer.alloc(0), mode, mtimeSec: undefined, xattrs: new Map() };
}

export function write(file: FileNode, offset: number, data: Buffer): void {
  if (data.length === 0) return;
  const size = Math.max(file.content.length, offset + data.length);
  const content = Buffer.alloc(size);
  file.content.copy(content);
  data.copy(content, offset);
  file.content = content;
  file.mtimeSec = undefined;
}

export function resize(file: FileNode, sizeBytes: number): void {
  const content = Buffer.alloc(sizeBytes);
  file.content.copy(content, 0, 0, sizeBytes);
  file.content = content;
  file.mtimeSec = undefined;
}

/** fallocate(2) as ext4 has it. */
export function allocate(file: FileNode, kind: 'extend' | 'keep size' | 'punch' | 'zero' | 'collapse' | 'insert', offset: number, length: number): void {
  const { content } = file;
  const end = Math.min(offset + length, content.length);
  switch (kind) {
    case 'extend': case 'zero':
      if (offset + length > content.length) resize(file, offset + length);
      if (kind === 'zero') file.content.fill(0, offset, offset + length);
      break;
    case 'keep size': break;
    case 'punch':
      if (offset < end) content.fill(0, offset, end);
      break;
    case 'collapse':
      if (offset + length >= content.length) throw new Refused('EINVAL');
      file.content = Buffer.concat([content.subarray(0, offset), content.subarray(offset + length)]);
      break;
    case 'insert':
      if (offset >= content.length) throw new Refused('EINVAL');
      file.content = Buffer.concat([content.subarray(0, offset), Buffer.alloc(length), content.subarray(offset)]);
  }
  file.mtimeSec = undefined;
}

function isWithin(dir: Node, ancestor: DirNode): boolean {
  if (dir === ancestor) return true;
  return [...ancestor.children.values()].some((child) => child.kind === 'dir' && isWithin(dir, child));
}
