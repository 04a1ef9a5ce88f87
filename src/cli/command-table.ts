/** The commands, in the order of `hearthfs help`. */
import type { CommandSpec } from './command.js';
import { conflicts } from './commands/conflicts.js';
import { demo } from './commands/demo.js';
import { doctor } from './commands/doctor.js';
import { evict } from './commands/evict.js';
import { mount } from './commands/mount.js';
import { pending } from './commands/pending.js';
import { remount } from './commands/remount.js';
import { stats } from './commands/stats.js';
import { status } from './commands/status.js';
import { sync } from './commands/sync.js';
import { unmount } from './commands/unmount.js';
import { warm } from './commands/warm.js';

export const commandTable: readonly CommandSpec[] = [mount, unmount, remount, status, stats, pending, sync, warm, evict, conflicts, doctor, demo];
