/**
 * Makes a cache directory that knows and holds a bucket of equal files (`S3Side.fill`), as a mount would leave it that had read them all, through the code
 * that a mount uses but without one: a million in a minute or two. Content files are holes, for the objects hold zeros. A process of its own, which prints
 * one line of JSON. `node fill-cache.js CACHEDIR ENDPOINT PREFIX`; credentials come from the environment.
 */
import { mkdirSync } from 'node:fs';
import { systemClock } from '../../src/base/clock.js';
import { realDisk, type Disk } from '../../src/base/disk.js';
import { silentLog } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { ContentStore } from '../../src/cache/content-store.js';
import { Db } from '../../src/db/db.js';
import { Discovery } from '../../src/meta/discovery.js';
import { rootIno, type Inode } from '../../src/meta/inode.js';
import { Tree } from '../../src/meta/tree.js';
import type { ObjectSummary } from '../../src/s3/object-store.js';
import { openS3Store } from '../../src/s3/s3-store.js';
import { bucket } from './s3-side.js';

const [dir = '', endpoint = '', prefix = ''] = process.argv.slice(2);
/** Whoever fills it syncs the whole of it once: a million syncs would take the day. */
const disk: Disk = { ...realDisk, fdatasync: () => Promise.resolve(), syncDirectory: () => Promise.resolve(), syncDirectorySync: () => undefined, syncFileSystem: () => Promise.resolve() };
const permissions = { uid: 0, gid: 0, umask: 0o022 };

mkdirSync(dir, { recursive: true, mode: 0o700 });
const metrics = new Metrics();
const store = await openS3Store({ bucket, prefix, endpoint, region: 'us-east-1', pathStyle: true, connectionsMax: 4, requestTimeoutMs: 60_000, deadlineMs: 120_000, log: silentLog });
const db = Db.open({ dir, disk, log: silentLog, metrics });
const contents = await ContentStore.open({ db, dir, disk, limitBytes: Number.MAX_SAFE_INTEGER, minFree: { bytes: 0 }, clock: systemClock, log: silentLog, metrics });
const tree = new Tree(db);
const discovery = new Discovery(tree, permissions);
const directories = new Map<string, Inode>();

function complete(directory: Inode): Inode {
  directory.complete = true;
  directory.listedAtMs = systemClock.now();
  directory.attrsComplete = true;
  tree.inodes.save(directory);
  return directory;
}

function add(object: ObjectSummary): void {
  const [directoryName = '', name = ''] = object.key.split('/');
  if (name === '') return;
  let directory = directories.get(directoryName);
  if (!directory) directories.set(directoryName, (directory = complete(discovery.addDirectory(rootIno, directoryName, null, systemClock.now()))));
  const inode = discovery.addObject(directory.ino, name, object, systemClock.now());
  const file = contents.create(object.sizeBytes, 'none', inode.ino);
  inode.content = file.id;
  inode.attrsComplete = true;
  tree.inodes.save(inode);
}

db.tx(() => complete(tree.createRoot({ ...permissions, mode: 0o040755, time: systemClock.time() })));
let files = 0;
for (let token: string | undefined; ; ) {
  const page = await store.list({ prefix: '', ...(token !== undefined && { token }) });
  db.tx(() => page.objects.forEach(add));
  files += page.objects.length;
  token = page.token;
  if (token === undefined) break;
}
await store.close();
await contents.close();
await db.close({ clean: true });
process.stdout.write(`${JSON.stringify({ files, directories: directories.size })}\n`);
