/**
 * The demo's equipment: one temporary directory that holds everything, the embedded S3 server as a child process, a shell whose
 * commands and output are shown, and a curtain that takes all of it down, whatever happened.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { S3Client } from '@aws-sdk/client-s3';

/** About what S3 in the same region takes to answer. */
const latencyMs = 20;
const credentials = { accessKeyId: 'demo-access-key', secretAccessKey: 'demo-secret-key' };

export interface Finished { readonly code: number; readonly output: string; readonly ms: number }

export class Stage {
  readonly bucket = 'demo';
  readonly root = mkdtempSync(path.join(os.tmpdir(), 'hearthfs-demo-'));
  readonly mnt = path.join(this.root, 'mnt');
  private readonly bin = path.join(this.root, 'bin');
  private s3: ChildProcess | undefined;
  private port = 0;
  private closed = false;
  private readonly children = new Set<ChildProcess>();

  constructor(private readonly project: string) {
    for (const name of ['mnt', 'bin', 's3', 'cache']) mkdirSync(path.join(this.root, name));
    symlinkSync(path.join(project, 'bin/hearthfs.js'), path.join(this.bin, 'hearthfs'));
  }

  get endpoint(): string { return `http://127.0.0.1:${this.port}`; }

  /** The user's own AWS settings are kept out: this must reach the embedded server and nothing else. */
  get env(): NodeJS.ProcessEnv {
    const kept = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('AWS_') && !name.startsWith('HEARTHFS_')));
    return {
      ...kept, PATH: `${this.bin}:${path.dirname(process.execPath)}:${process.env['PATH'] ?? '/usr/bin:/bin'}`, AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey, AWS_CONFIG_FILE: '/dev/null', AWS_SHARED_CREDENTIALS_FILE: '/dev/null', AWS_EC2_METADATA_DISABLED: 'true',
    };
  }

  client(): S3Client {
    process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true'; // advice for developers, not for who watches a demo
    return new S3Client({ endpoint: this.endpoint, region: 'us-east-1', forcePathStyle: true, credentials, maxAttempts: 3 });
  }

  /** Starts the server; the second time on the same port with the same data. */
  async startS3(): Promise<void> {
    const args = ['--port', String(this.port), '--dir', path.join(this.root, 's3'), '--bucket', this.bucket, '--access-key', credentials.accessKeyId, '--secret-key', credentials.secretAccessKey, '--latency-ms', String(latencyMs)];
    // A process group of its own: the terminal's Ctrl-C must not stop S3 before the unmount has uploaded to it.
    const child = spawn(process.execPath, [path.join(this.project, 'dist/test/s3-server/main.js'), ...args], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
    this.s3 = child;
    this.port = await new Promise<number>((resolve, reject) => {
      let text = '';
      const timer = setTimeout(() => reject(new Error('the embedded S3 server did not start within 15 s')), 15_000);
      child.once('error', reject).once('exit', (code) => reject(new Error(`the embedded S3 server ended with code ${code}`)));
      child.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        const found = /listening http:\/\/127\.0\.0\.1:(\d+)/.exec(text);
        if (!found) return;
        clearTimeout(timer);
        resolve(Number(found[1]));
      });
    });
  }

  async stopS3(): Promise<void> {
    const child = this.s3;
    this.s3 = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.removeAllListeners('error');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 3_000);
    await gone;
    clearTimeout(timer);
  }

  title(text: string): void {
    if (this.closed) return; // the curtain is down; the tour may still be walking
    process.stdout.write(process.stdout.isTTY ? `\n\x1b[1m== ${text}\x1b[0m\n` : `\n== ${text}\n`);
  }

  say(text: string): void {
    if (!this.closed) process.stdout.write(`   ${text}\n`);
  }

  /** Prints the command, runs it in a shell, prints its output (at most `lines`). @throws Error if it fails and `mayFail` is not set. */
  async sh(command: string, options: { lines?: number; mayFail?: boolean; quiet?: boolean } = {}): Promise<Finished> {
    return this.start(command, options).done;
  }

  /** The same without waiting: `done` settles when the command has ended. */
  start(command: string, options: { lines?: number; mayFail?: boolean; quiet?: boolean } = {}): { done: Promise<Finished> } {
    if (this.closed) return { done: new Promise(() => undefined) };
    if (!options.quiet) process.stdout.write(`$ ${command.replaceAll(this.project, '.')}\n`);
    const started = performance.now();
    const child = spawn('bash', ['-c', command], { cwd: this.root, env: { ...this.env, MNT: this.mnt }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.children.add(child);
    const done = new Promise<Finished>((resolve, reject) => {
      let output = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => { output += chunk.toString(); });
      child.once('error', reject).once('close', (code) => {
        this.children.delete(child);
        const finished = { code: code ?? 1, output, ms: performance.now() - started };
        if (!this.closed && (!options.quiet || finished.code !== 0)) this.print(output, options.lines ?? 12);
        if (finished.code !== 0 && !options.mayFail && !this.closed) reject(new Error(`the command ended with code ${finished.code}: ${command}`));
        else resolve(finished);
      });
    });
    done.catch(() => undefined); // whoever awaits it gets the error; nobody may be awaiting when the curtain falls
    return { done };
  }

  private print(output: string, lines: number): void {
    const all = output.replace(/\n$/, '').split('\n').filter((line, index, every) => line !== '' || every.length > 1);
    for (const line of all.slice(0, lines)) process.stdout.write(`  ${line}\n`);
    if (all.length > lines) process.stdout.write(`  ... ${all.length - lines} more lines\n`);
  }

  /** Unmounts, stops S3, removes the directory. Safe to call twice and at any moment. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    process.stdout.write('\nCleaning up ...\n');
    for (const child of this.children) child.kill('SIGKILL');
    if (this.isMounted()) {
      const timeout = this.s3 ? '20s' : '0';
      spawnSync('hearthfs', ['unmount', this.mnt, '--drain-timeout', timeout, '--lazy'], { env: this.env, timeout: 40_000, stdio: 'ignore' });
    }
    if (this.isMounted()) spawnSync(process.getuid?.() === 0 ? 'umount' : 'fusermount3', [process.getuid?.() === 0 ? '-l' : '-uz', this.mnt], { stdio: 'ignore' });
    await this.stopS3();
    for (let attempt = 0; ; attempt++) {
      try {
        rmSync(this.root, { recursive: true, force: true });
        break;
      } catch (error) {
        if (attempt === 20) throw error; // a daemon that is still closing its files may add one: try again
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
    }
    process.stdout.write(`Removed ${this.root}; nothing is left.\n`);
  }

  isMounted(): boolean {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
    return mounts.split('\n').some((line) => line.split(' ')[4] === this.mnt);
  }
}
