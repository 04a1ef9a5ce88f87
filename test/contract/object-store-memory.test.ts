import { LongKeyStore } from '../../src/s3/long-key-store.js';
import { LongKeys } from '../../src/s3/long-keys.js';
import { MemoryObjectStore } from '../../src/s3/memory-object-store.js';
import { objectStoreContract } from './object-store.js';

objectStoreContract('in memory', async () => {
  const store = new MemoryObjectStore();
  return Promise.resolve({ store, close: () => store.close() });
});

objectStoreContract('in memory, with versions', async () => {
  const store = new MemoryObjectStore({ versioning: true });
  return Promise.resolve({ store, close: () => store.close() });
});

objectStoreContract('in memory, by paths of any length', async () => {
  const store = new LongKeyStore(new MemoryObjectStore(), new LongKeys(''));
  return Promise.resolve({ store, close: () => store.close() });
});
