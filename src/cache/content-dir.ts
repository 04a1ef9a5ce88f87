/** Where content files lie: `content/<id mod 256, two hex digits>/<id>`; `content-ids` says which. The 256 directories are made as they are needed. */
import fs from 'node:fs';
import { join } from 'node:path';
import { realDisk } from '../base/disk.js';

export const shardCount = 256;
/** Stands for the directory that holds the shards, where shards are counted. */
export const rootShard = -1;

export class ContentDir {
  readonly root: string;
  constructor(dir: string) {
    this.root = join(dir, 'content');
    if (fs.existsSync(this.root)) return;
    fs.mkdirSync(this.root, { mode: 0o700 });
    realDisk.syncDirectorySync('dir.sync', dir);
  }

  shardOf(id: number): number { return id % shardCount; }
  shardPath(shard: number): string { return shard === rootShard ? this.root : `${this.root}/${shardName(shard)}`; }
  path(id: number): string { return `${this.shardPath(this.shardOf(id))}/${id}`; }

  /** Those that were made. */
  shards(): number[] {
    const names = new Set(fs.readdirSync(this.root));
    return Array.from({ length: shardCount }, (_, shard) => shard).filter((shard) => names.has(shardName(shard)));
  }

  /** Makes the directory for this file's name; false if it was there. Its own name is not durable yet. */
  makeShard(id: number): boolean {
    return fs.mkdirSync(this.shardPath(this.shardOf(id)), { recursive: true, mode: 0o700 }) !== undefined;
  }
}

function shardName(shard: number): string { return shard.toString(16).padStart(2, '0'); }
