/** Log lines: one per event, `key=value` fields with fixed keys (room, op, req, ino, key, error), to standard error or a file. */
import fs from 'node:fs';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';
export const logLevels = ['error', 'warn', 'info', 'debug', 'trace'] as const satisfies readonly LogLevel[];

export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  readonly level: LogLevel;
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  trace(message: string, fields?: LogFields): void;
  child(fields: LogFields): Log;
}

export function createLog(level: LogLevel, write: (line: string) => void, base: LogFields = {}): Log {
  const rank = logLevels.indexOf(level);
  const emit = (at: LogLevel) => {
    if (logLevels.indexOf(at) > rank) return () => undefined;
    return (message: string, fields: LogFields = {}): void => {
      const line = `${new Date().toISOString()} ${at.padEnd(5)} ${message}${format({ ...base, ...fields }, level)}\n`;
      try {
        write(line);
      } catch {
        // The log's disk is full or gone: that costs the line and nothing else
      }
    };
  };
  return {
    level, error: emit('error'), warn: emit('warn'), info: emit('info'), debug: emit('debug'), trace: emit('trace'),
    child: (fields) => createLog(level, write, { ...base, ...fields }),
  };
}

/** Not `process.stderr`: that is closed for good by its first failure, such as a full disk under the log, and then ends the process. */
export function toStandardError(line: string): void {
  fs.writeSync(2, line);
}

export const silentLog: Log = createLog('error', () => undefined);

function format(fields: LogFields, level: LogLevel): string {
  let text = '';
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    text += ` ${key}=${formatValue(value, level)}`;
  }
  return text;
}

function formatValue(value: unknown, level: LogLevel): string {
  if (value instanceof Error) {
    const verbose = level === 'debug' || level === 'trace';
    const text = verbose && value.stack ? value.stack : `${value.name}: ${value.message}`;
    const cause = value.cause instanceof Error ? ` (cause: ${value.cause.name}: ${value.cause.message})` : '';
    return JSON.stringify(text + cause);
  }
  if (typeof value === 'string') return /^[\w./:@%+-]+$/.test(value) ? value : JSON.stringify(value);
  if (typeof value === 'bigint') return value.toString();
  return JSON.stringify(value);
}
