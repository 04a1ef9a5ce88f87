/** What daemons cost: CPU seconds and peak resident memory, from /proc. */
import { readFileSync, writeFileSync } from 'node:fs';

const ticksPerSecond = 100; // USER_HZ, the same on every Linux

export interface Cost { readonly cpuSeconds: number; readonly peakRssBytes: number }

/** Of several processes at once; one that ended no longer counts. */
export class CostMeter {
  private readonly startCpu: number;

  constructor(private readonly pids: readonly number[]) {
    for (const pid of pids) resetPeak(pid);
    this.startCpu = sum(pids, cpuSeconds);
  }

  read(): Cost {
    return { cpuSeconds: sum(this.pids, cpuSeconds) - this.startCpu, peakRssBytes: sum(this.pids, peakRssBytes) };
  }
}

function sum(pids: readonly number[], of: (pid: number) => number): number {
  return pids.reduce((total, pid) => total + of(pid), 0);
}

function cpuSeconds(pid: number): number {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticksPerSecond; // utime, stime
}

function peakRssBytes(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

function resetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch {
    // not root: the peak since its start then
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
