/**
 * Test and demo equipment, not product: `journal.jsonl`, one commit a line. A line is written by one write(2) before the commit is
 * visible, so it survives a kill of the process; a torn last line is a commit that never happened. Opening replays the file and
 * writes it anew without history.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { Fact } from './model.js';

export class Journal {
  private fd = -1;
  private readonly path: string;

  constructor(directory: string) {
    fs.mkdirSync(directory, { recursive: true });
    this.path = join(directory, 'journal.jsonl');
  }

  /** Calls `apply` for every commit of the past. */
  replay(apply: (facts: Fact[]) => void): void {
    if (!fs.existsSync(this.path)) return;
    const bytes = fs.readFileSync(this.path);
    for (let at = 0; ;) {
      const end = bytes.indexOf(10, at);
      if (end < 0) return;
      apply(JSON.parse(bytes.toString('utf8', at, end)) as Fact[]);
      at = end + 1;
    }
  }

  /** Replaces the file by a snapshot and opens it for appending. */
  start(snapshot: Iterable<Fact>): void {
    const fresh = `${this.path}.new`;
    const fd = fs.openSync(fresh, 'w');
    let lines = '';
    for (const fact of snapshot) {
      lines += `${JSON.stringify([fact])}\n`;
      if (lines.length > 1 << 20) {
        fs.writeSync(fd, lines);
        lines = '';
      }
    }
    fs.writeSync(fd, lines);
    fs.closeSync(fd);
    fs.renameSync(fresh, this.path);
    this.fd = fs.openSync(this.path, 'a');
  }

  append(facts: readonly Fact[]): void {
    fs.writeSync(this.fd, `${JSON.stringify(facts)}\n`);
  }

  close(): void {
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
  }
}
