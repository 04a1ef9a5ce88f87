import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Outbox } from './outbox.js';

interface Delivered { messages: string[]; transfers: ArrayBuffer[] }

function outbox(): { box: Outbox<string>; delivered: Delivered[] } {
  const delivered: Delivered[] = [];
  return { delivered, box: new Outbox<string>((messages, transfers) => delivered.push({ messages, transfers })) };
}

describe('Outbox', () => {
  it('delivers the messages of one turn together, in order, with all they transfer', async () => {
    const { box, delivered } = outbox();
    const [first, second] = [new ArrayBuffer(1), new ArrayBuffer(2)];
    box.post('a', [first]);
    await Promise.resolve();
    box.post('b');
    box.post('c', [second]);
    expect(delivered).toEqual([]);
    await turn();
    expect(delivered).toEqual([{ messages: ['a', 'b', 'c'], transfers: [first, second] }]);
    expect(delivered[0]!.transfers[1]).toBe(second);
  });

  it('delivers what comes later with a later turn', async () => {
    const { box, delivered } = outbox();
    box.post('a');
    await turn();
    box.post('b');
    await turn();
    expect(delivered.map(({ messages }) => messages)).toEqual([['a'], ['b']]);
  });

  it('delivers at once on flush, and not a second time', async () => {
    const { box, delivered } = outbox();
    box.post('a');
    box.flush();
    await turn();
    expect(delivered.map(({ messages }) => messages)).toEqual([['a']]);
  });

  it('delivers nothing once it is closed', async () => {
    const { box, delivered } = outbox();
    box.post('a');
    box.close();
    box.post('b');
    await turn();
    box.flush();
    expect(delivered).toEqual([]);
  });
});
