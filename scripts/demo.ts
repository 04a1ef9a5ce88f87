/** The tour behind `hearthfs demo`. `--no-wait` ends after it; otherwise the mount stays up until Ctrl-C. */
import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { HeadObjectCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import { Stage } from './demo-stage.js';

const project = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');

async function tour(stage: Stage): Promise<void> {
  stage.title('An S3 server of our own, and a small data set put there by another S3 client');
  await stage.startS3();
  stage.say(`embedded S3 (demo equipment) at ${stage.endpoint}, bucket ${stage.bucket}; everything below ${stage.root}`);
  await seed(stage);

  stage.title('Mount it: one command');
  await stage.sh(`hearthfs mount s3://${stage.bucket} $MNT --endpoint ${stage.endpoint} --cache-dir ${stage.root}/cache --cache-size 2GiB --min-free 100MB`);
  await stage.sh('findmnt -o TARGET,SOURCE,FSTYPE $MNT');
  await stage.sh('ls -l $MNT; ls $MNT/project/src | head -20 | tr "\\n" " "');
  await stage.sh('grep -rl "journaled" $MNT/project/docs $MNT/project/README.md');

  stage.title('Programs write as to a local disk; each file becomes one plain object');
  await stage.sh('mkdir $MNT/notes && echo "bought milk" > $MNT/notes/todo.txt && echo "fed the cat" >> $MNT/notes/todo.txt');
  await stage.sh('chmod 640 $MNT/notes/todo.txt && touch -d "2001-02-03 04:05:06.789" $MNT/notes/todo.txt && ln -s todo.txt $MNT/notes/link');
  await stage.sh('stat -c "%A %s bytes, modified %y, %n" $MNT/notes/todo.txt && cat $MNT/notes/link');
  await stage.sh('hearthfs sync --wait $MNT');
  await showObjects(stage, 'notes/');

  stage.title('First read from S3, second from the local disk');
  const cold = await stage.sh('sha256sum $MNT/video.bin');
  const warm = await stage.sh('sha256sum $MNT/video.bin');
  if (cold.output !== warm.output) throw new Error('the two reads differ');
  const size = statSync(path.join(stage.root, 'mnt', 'video.bin')).size;
  stage.say(`from S3: ${rate(size, cold.ms)}; again: ${rate(size, warm.ms)} (the checksum itself included)`);

  stage.title('Renaming a directory returns at once; the copies follow inside S3');
  const renamed = await stage.sh('mv $MNT/project $MNT/renamed');
  stage.say(`mv took ${Math.round(renamed.ms)} ms`);
  await stage.sh('hearthfs sync --wait $MNT && hearthfs pending $MNT');
  await showObjects(stage, 'renamed/', 4);

  stage.title('kill -9 the daemon while files are being copied: cp does not notice');
  const copy = stage.start(`cp -r ${project}/node_modules/@smithy $MNT/copied`);
  for (let round = 0; round < 2; round++) {
    await pause(400);
    const { daemonPid } = await status(stage);
    await stage.sh(`kill -9 ${daemonPid}   # the daemon of the mount`);
  }
  const { code } = await copy.done;
  stage.say(`cp ended with exit code ${code}; the daemon is now ${(await status(stage)).daemonPid}`);
  await stage.sh(`diff -r ${project}/node_modules/@smithy $MNT/copied && echo "all files are equal"`);

  stage.title('S3 goes away: writing and cached reading go on');
  await stage.sh('hearthfs sync --wait $MNT');
  await stage.stopS3();
  stage.say('S3 is stopped');
  await stage.sh('for i in 1 2 3; do echo "written while S3 was gone" > $MNT/notes/offline-$i.txt; done && sha256sum $MNT/video.bin && ls $MNT/notes');
  await pause(2_500);
  await stage.sh('hearthfs status $MNT');
  await stage.sh('hearthfs pending $MNT');
  await stage.startS3();
  stage.say('S3 is back');
  await stage.sh('hearthfs sync --wait $MNT');
  await showObjects(stage, 'notes/');

  stage.title('What it did');
  await stage.sh('hearthfs stats $MNT', { lines: 60 });
}

/** This project's own sources and docs, and a file big enough to see a speed. */
async function seed(stage: Stage): Promise<void> {
  const client = stage.client();
  const files = ['README.md', ...filesBelow('docs'), ...filesBelow('src')];
  let at = 0;
  const put = async (): Promise<void> => {
    for (let name = files[at++]; name !== undefined; name = files[at++]) {
      await client.send(new PutObjectCommand({ Bucket: stage.bucket, Key: `project/${name}`, Body: readFileSync(path.join(project, name)) }));
    }
  };
  try {
    await Promise.all(Array.from({ length: 8 }, put));
    const block = readFileSync(process.execPath).subarray(0, 64 * 2 ** 20);
    await client.send(new PutObjectCommand({ Bucket: stage.bucket, Key: 'video.bin', Body: block }));
    stage.say(`${files.length} files of this project below project/, and video.bin with ${Math.round(block.length / 2 ** 20)} MiB`);
  } finally {
    client.destroy();
  }
}

function filesBelow(folder: string): string[] {
  return readdirSync(path.join(project, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(project, path.join(entry.parentPath, entry.name)));
}

/** What any other S3 client sees. */
async function showObjects(stage: Stage, prefix: string, most = 8): Promise<void> {
  const client = stage.client();
  try {
    stage.say(`another S3 client sees below ${prefix}:`);
    const list = await client.send(new ListObjectsV2Command({ Bucket: stage.bucket, Prefix: prefix }));
    for (const { Key, Size } of (list.Contents ?? []).slice(0, most)) {
      const head = await client.send(new HeadObjectCommand({ Bucket: stage.bucket, Key: Key! }));
      const metadata = Object.entries(head.Metadata ?? {}).map(([name, value]) => `${name}=${value}`).join(' ');
      process.stdout.write(`  ${String(Size).padStart(9)}  ${Key}  ${head.ContentType ?? ''}  ${metadata}\n`);
    }
    const more = (list.KeyCount ?? 0) - most;
    if (more > 0) process.stdout.write(`  ... ${more}${list.IsTruncated ? ' or more' : ''} other objects\n`);
  } finally {
    client.destroy();
  }
}

async function status(stage: Stage): Promise<{ daemonPid: number; state: string }> {
  return JSON.parse((await stage.sh('hearthfs status --json $MNT', { quiet: true })).output) as { daemonPid: number; state: string };
}

function rate(bytes: number, ms: number): string {
  return `${Math.round(ms)} ms, ${Math.round(bytes / 2 ** 20 / (ms / 1000))} MiB/s`;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function main(): Promise<number> {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    process.stderr.write('demo: /dev/fuse cannot be opened; `hearthfs doctor` says what to do\n');
    return 1;
  }
  const stage = new Stage(project);
  let interrupted = false;
  const stop = new Promise<void>((resolve) => {
    const onSignal = (): void => {
      interrupted = true;
      resolve();
    };
    process.on('SIGINT', onSignal).on('SIGTERM', onSignal).on('SIGHUP', onSignal);
  });
  try {
    await Promise.race([tour(stage), stop]);
    if (!interrupted && !process.argv.includes('--no-wait')) {
      stage.title('Yours now');
      stage.say(`the mount is ${stage.mnt}; in another terminal: export PATH=${stage.root}/bin:$PATH; then hearthfs help`);
      stage.say('Ctrl-C unmounts and removes everything');
      // Something must keep the process alive: a pending promise does not.
      const alive = setInterval(() => undefined, 60_000);
      await stop;
      clearInterval(alive);
    }
    return 0;
  } catch (error) {
    if (interrupted) return 0;
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    await stage.close();
  }
}

process.exitCode = await main();
