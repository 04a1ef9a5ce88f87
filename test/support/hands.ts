/** A program that makes system calls below one directory as it is told (`hands.py`): what touches a mount is another process than the one that checks it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { dyingWithUs } from './child.js';
import { patience } from './scale.js';

const program = new URL('./hands.py', import.meta.url).pathname;

export type Call = readonly [name: string, ...args: readonly (string | number | boolean | null)[]];
export type Answer = { readonly ok: unknown } | { readonly errno: string };

const usualMs = 30_000;

export class Hands {
  private readonly child: ChildProcess;
  private readonly waiting: { readonly call: Call; readonly resolve: (answer: Answer) => void; readonly reject: (error: Error) => void; readonly timer: NodeJS.Timeout }[] = [];
  private failure: Error | undefined;

  constructor(readonly root: string) {
    this.child = spawn(...dyingWithUs('KILL', ['python3', program, root]), { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      const next = this.waiting.shift();
      if (!next) return;
      clearTimeout(next.timer);
      next.resolve(JSON.parse(line) as Answer);
    });
    this.child.stdin!.on('error', () => undefined); // told by 'exit'
    this.child.on('exit', (code, signal) => this.fail(new Error(`the program at ${root} ended: ${signal ?? code}`)));
  }

  get isUsable(): boolean { return this.failure === undefined; }

  /** Calls are made in order; several may be asked for at once. */
  call(...call: Call): Promise<Answer> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.fail(new Error(`${JSON.stringify(call)} hangs at ${this.root}`)), usualMs * patience);
      this.waiting.push({ call, resolve, reject, timer });
      this.child.stdin!.write(`${JSON.stringify(call)}\n`);
    });
  }

  /** For calls that cannot fail. */
  async must(...call: Call): Promise<unknown> {
    const answer = await this.call(...call);
    if ('errno' in answer) throw new Error(`${JSON.stringify(call)} at ${this.root}: ${answer.errno}`);
    return answer.ok;
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await gone;
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.child.kill('SIGKILL');
    for (const { reject, timer } of this.waiting.splice(0)) {
      clearTimeout(timer);
      reject(error);
    }
  }
}
