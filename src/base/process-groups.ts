import { readFileSync } from 'node:fs';

/** Supplementary groups of a process (`/proc/PID/status`). Empty if it is gone or lies outside our PID namespace: then the caller's own group is all that is known. */
export function groupsOfProcess(pid: number): readonly number[] {
  if (pid <= 0) return [];
  try {
    const line = /^Groups:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '';
    return line.split(' ').filter((word) => word !== '').map(Number);
  } catch {
    return []; // a process may end at any time
  }
}
