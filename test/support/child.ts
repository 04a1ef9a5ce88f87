/**
 * Programs for tests. Everything that touches a mount runs as a child with a deadline, so that a hang fails a test instead of blocking it: at the
 * deadline the whole process group is killed, and the promise rejects even if the kernel will not let the process go.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { patience } from './scale.js';

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  readonly timeoutMs?: number;
  /** True (default): a non-zero exit code rejects. */
  readonly check?: boolean;
  readonly uid?: number;
  readonly gid?: number;
  /** Environment variables to leave out. */
  readonly without?: readonly string[];
}

export interface RunResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

export class RunFailed extends Error {
  override readonly name = 'RunFailed';
}

const outputCharsMax = 4_000_000;

export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const timeoutMs = (options.timeoutMs ?? 60_000) * patience;
  const started = performance.now();
  const environment: NodeJS.ProcessEnv = { ...process.env, LC_ALL: 'C.UTF-8', ...options.env };
  for (const name of options.without ?? []) delete environment[name];
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }), env: environment, detached: true, stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.uid === undefined ? {} : { uid: options.uid }), ...(options.gid === undefined ? {} : { gid: options.gid }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => { if (stdout.length < outputCharsMax) stdout += text; });
    child.stderr.setEncoding('utf8').on('data', (text: string) => { if (stderr.length < outputCharsMax) stderr += text; });
    const shown = (): string => {
      const line = [command, ...args].map((part) => (part.length > 600 ? `${part.slice(0, 600)}...` : part)).join(' ');
      return `${line}\n--- stdout\n${stdout.slice(-4000)}\n--- stderr\n${stderr.slice(-4000)}`;
    };
    const timer = setTimeout(() => {
      killGroup(child.pid);
      reject(new RunFailed(`No end within ${timeoutMs} ms: ${shown()}`));
    }, timeoutMs);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const result = { code, signal, stdout, stderr, ms: performance.now() - started };
      if ((options.check ?? true) && code !== 0) reject(new RunFailed(`Exit code ${code ?? signal}: ${shown()}`));
      else resolve(result);
    });
    child.stdin.on('error', () => undefined); // a program that does not read its input
    child.stdin.end(options.input ?? '');
  });
}

/** A bash script that stops at the first failure. */
export function sh(script: string, options: RunOptions = {}): Promise<RunResult> {
  return run('bash', ['-euo', 'pipefail', '-c', script], options);
}

export function killGroup(pid: number | undefined): void {
  if (pid === undefined || !(pid > 1)) return; // 0 would be our own group, -1 everybody
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // it ended by itself
  }
}

export function kill9(pid: number): void {
  if (!(pid > 1)) throw new Error(`${pid} is no process of a test`); // 0 is our own process group
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it ended by itself
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Text of a process in `quotes` for bash. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function hasProgram(name: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((dir) => {
    try {
      accessSync(path.join(dir, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** For `describe.skipIf`: says loudly what is missing. */
export function lacks(...programs: string[]): boolean {
  const missing = programs.filter((name) => !hasProgram(name));
  if (missing.length > 0) process.stderr.write(`SKIPPED: this machine lacks ${missing.join(', ')}\n`);
  return missing.length > 0;
}

/** Waits until `check` answers something true; its last error or answer is in the failure. */
export async function until<T>(what: string, check: () => Promise<T> | T, usualMs = 15_000, everyMs = 50): Promise<Exclude<T, false | null | undefined>> {
  const timeoutMs = usualMs * patience;
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await check();
      if (answer) return answer as Exclude<T, false | null | undefined>;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= deadline) throw new Error(`Not within ${timeoutMs} ms: ${what} (last: ${last instanceof Error ? last.message : String(last)})`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Arguments of `spawn` for a child that gets a signal when this process dies, however it dies. */
export function dyingWithUs(signal: 'KILL' | 'TERM', command: readonly string[]): [string, string[]] {
  return hasProgram('setpriv') ? ['setpriv', ['--pdeathsig', signal, ...command]] : [command[0]!, command.slice(1)];
}
