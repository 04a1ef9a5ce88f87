/**
 * Entry of a transfer worker thread: one `s3-store`, calls in, answers out. Calls that arrive while the store is still opening
 * wait in the port. A failure to open is reported and ends the thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../base/assert.js';
import { logLevels, type Log, type LogFields, type LogLevel } from '../base/log.js';
import type { ListPage } from '../s3/object-store.js';
import type { RequestSample } from '../s3/request-metrics.js';
import { openS3Store } from '../s3/s3-store.js';
import { packPage, toPlainError, type FromWorker, type ToWorker, type WorkerSettings } from './messages.js';
import { Outbox } from './outbox.js';

assert(parentPort !== null, 'transfer/worker runs only as a worker thread');
const port = parentPort;
const settings = workerData as WorkerSettings;

const outbox = new Outbox<FromWorker>((messages, transfers) => port.postMessage(messages, transfers));

function post(message: FromWorker, transfer?: readonly ArrayBuffer[]): void { outbox.post(message, transfer); }

function end(): void {
  outbox.flush();
  port.close();
}

function remoteLog(base: LogFields): Log {
  const rank = logLevels.indexOf(settings.logLevel);
  const at = (level: LogLevel) => (message: string, fields: LogFields = {}): void => {
    if (logLevels.indexOf(level) > rank) return;
    const plain = Object.fromEntries(Object.entries({ ...base, ...fields }).map(([name, value]) => [name, value instanceof Error ? `${value.name}: ${value.message}` : value]));
    post({ type: 'log', level, message, fields: plain });
  };
  return { level: settings.logLevel, error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug'), trace: at('trace'), child: (fields) => remoteLog({ ...base, ...fields }) };
}

try {
  await serve();
} catch (error) {
  post({ type: 'failed', error: toPlainError(error) });
  end();
}

async function serve(): Promise<void> {
  let samples: RequestSample[] = [];
  const takeSamples = (): RequestSample[] => {
    const taken = samples;
    samples = [];
    return taken;
  };
  const store = await openS3Store({ ...settings, log: remoteLog({}), observe: (sample) => samples.push(sample) });
  const running = new Map<number, AbortController | undefined>();
  let closing = false;
  const closeIfDone = (): void => {
    if (closing && running.size === 0) void store.close().then(end);
  };

  const call = async ({ id, op, args, deadlineMs, ranges, abortable }: Extract<ToWorker, { type: 'call' }>): Promise<void> => {
    const controller = abortable ? new AbortController() : undefined;
    running.set(id, controller);
    const options = {
      ...(controller && { signal: controller.signal }), ...(deadlineMs !== undefined && { deadlineMs }),
      ...(ranges && { onRange: (start: number, end: number) => post({ type: 'range', id, start, end }) }),
    };
    try {
      // `op` and `args` come from the pool's typed methods: every method of ObjectStore but presign takes its options last.
      const method = store[op] as (...all: unknown[]) => Promise<unknown>;
      const value = await method.apply(store, op === 'presign' ? [...args] : [...args, options]);
      if (op === 'list') {
        const packed = packPage(value as ListPage);
        post({ type: 'done', id, value: packed, samples: takeSamples() }, [packed.sizes.buffer, packed.times.buffer]);
      } else if (op === 'getBytes') {
        const { bytes } = value as { bytes: Uint8Array<ArrayBuffer> };
        post({ type: 'done', id, value, samples: takeSamples() }, [bytes.buffer]);
      } else {
        post({ type: 'done', id, value, samples: takeSamples() });
      }
    } catch (error) {
      post({ type: 'error', id, error: toPlainError(error), samples: takeSamples() });
    } finally {
      running.delete(id);
      closeIfDone();
    }
  };

  const take = (message: ToWorker): void => {
    switch (message.type) {
      case 'call': return void call(message);
      case 'abort': return running.get(message.id)?.abort();
      case 'etag-quotes': return store.setEtagQuotes(message.quotes);
      case 'close':
        closing = true;
        return closeIfDone();
    }
  };
  port.on('message', (messages: readonly ToWorker[]) => messages.forEach(take));
  post({ type: 'ready' });
}
