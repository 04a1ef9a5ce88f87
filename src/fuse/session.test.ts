import { afterEach, describe, expect, it } from 'vitest';
import { FakeKernel, pack } from '../../test/support/fake-kernel.js';
import { ToyFileSystem } from '../../test/support/toy-fs.js';
import { Errno } from '../base/errno.js';
import { FsError } from '../base/fs-error.js';
import { InitFlag, Opcode } from './abi.js';
import type { DirentSink, Entry, RequestContext } from './ops.js';

let kernels: FakeKernel[] = [];
function kernel(...args: ConstructorParameters<typeof FakeKernel>): FakeKernel {
  const made = new FakeKernel(...args);
  kernels.push(made);
  return made;
}
afterEach(async () => {
  for (const made of kernels) await made.close();
  kernels = [];
});

const readIn = (fh: number, offset: number, size: number): Buffer => pack(BigInt(fh), BigInt(offset), size, 0, 0n, 0, 0);

describe('INIT (K1 to K4)', () => {
  it('takes exactly the listed flags of those offered, and no others', async () => {
    const k = kernel(new ToyFileSystem());
    const { body } = await k.init(0xffff_ffff_ffff_ffffn);
    const flags = BigInt(body.readUInt32LE(12)) | (BigInt(body.readUInt32LE(32)) << 32n);
    const f = InitFlag;
    expect(flags).toBe(f.ASYNC_READ | f.ATOMIC_O_TRUNC | f.BIG_WRITES | f.DO_READDIRPLUS | f.READDIRPLUS_AUTO | f.PARALLEL_DIROPS | f.MAX_PAGES | f.CACHE_SYMLINKS
      | f.EXPLICIT_INVAL_DATA | f.HANDLE_KILLPRIV_V2 | f.SETXATTR_EXT | f.INIT_EXT | f.CREATE_SUPP_GROUP | f.HAS_EXPIRE_ONLY | f.DIRECT_IO_ALLOW_MMAP | f.HAS_RESEND);
    expect([body.readUInt16LE(16), body.readUInt16LE(18), body.readUInt32LE(20), body.readUInt32LE(24), body.readUInt16LE(28), body.readUInt32LE(36)]).toEqual([1024, 768, 1 << 20, 1, 256, 0]);
  });

  it('takes passthrough and ACLs, the latter with DONT_MASK, when asked to', async () => {
    const k = kernel(new ToyFileSystem(), { init: { passthrough: true, maxStackDepth: 2, posixAcl: true } });
    const { body } = await k.init();
    const flags = BigInt(k.negotiations[0]!.flags);
    for (const flag of [InitFlag.PASSTHROUGH, InitFlag.POSIX_ACL, InitFlag.DONT_MASK]) expect(flags & flag).toBe(flag);
    expect(body.readUInt32LE(36)).toBe(2);
  });

  it('takes nothing the kernel does not offer', async () => {
    const k = kernel(new ToyFileSystem(), { init: { passthrough: true } });
    await k.init(InitFlag.ASYNC_READ | InitFlag.INIT_EXT);
    expect(k.negotiations[0]).toMatchObject({ flags: '0x40000001', passthrough: false, hasResend: false, setxattrExt: false, maxPages: 32, maxStackDepth: 0 });
  });

  it('gives every inode but the root the generation of its handles, where the kernel lets handles outlive its memory; the next daemon the same', async () => {
    const toy = new ToyFileSystem();
    const generationOf = async (k: FakeKernel, name: string): Promise<number> => Number((await k.ask(Opcode.LOOKUP, 1, pack(name))).body.readBigUInt64LE(8));
    const first = kernel(toy, { init: { handleGeneration: 77 } });
    await first.init();
    expect(BigInt(first.negotiations[0]!.flags) & InitFlag.EXPORT_SUPPORT).toBe(InitFlag.EXPORT_SUPPORT);
    await first.ask(Opcode.MKDIR, 1, pack(0o755, 0, 'd'));
    expect(await generationOf(first, 'd')).toBe(77);
    expect(await generationOf(kernel(toy, { init: { handleGeneration: 78 }, resume: first.negotiations[0]! }), 'd')).toBe(77);
    const { generation: _unknown, ...earlier } = first.negotiations[0]!;
    expect(await generationOf(kernel(toy, { init: { handleGeneration: 78 }, resume: earlier as typeof first.negotiations[0] & object }), 'd')).toBe(0);
    const old = kernel(toy, { init: { handleGeneration: 77 } });
    await old.init(InitFlag.ASYNC_READ | InitFlag.INIT_EXT);
    expect(await generationOf(old, 'd')).toBe(0);
  });

  it('refuses another major version', async () => {
    const k = kernel(new ToyFileSystem());
    expect((await k.ask(Opcode.INIT, 0, pack(8, 1, 0, 0))).error).toBe(-Errno.EINVAL);
  });
});

describe('resuming a connection (K11, K12)', () => {
  it('sends RESEND, and only then', async () => {
    const first = kernel(new ToyFileSystem());
    await first.init();
    expect(first.strays).toEqual([]);
    const next = kernel(new ToyFileSystem(), { resume: first.negotiations[0]! });
    await next.ask(Opcode.GETATTR, 1, pack(0, 0, 0n));
    expect(next.strays).toMatchObject([{ error: 7, unique: 0n }]);
  });

  it('keeps what was negotiated: the long form of SETXATTR is understood without another INIT', async () => {
    const first = kernel(new ToyFileSystem());
    await first.init();
    const toy = new ToyFileSystem();
    const next = kernel(toy, { resume: first.negotiations[0]! });
    expect((await next.ask(Opcode.SETXATTR, 1, pack(3, 0, 0, 0, 'user.a', Buffer.from('xyz')))).error).toBe(0);
    expect(toy.getxattr(undefined as never, 1, 'user.a')?.toString()).toBe('xyz');
  });

  it('negotiates again when INIT itself is resent', async () => {
    const k = kernel(new ToyFileSystem(), { resend: true });
    const unique = (1n << 63n) | 2n;
    const reply = await k.ask(Opcode.INIT, 0, pack(7, 45, 0, 0x40000000, 0), { unique });
    expect([reply.error, reply.unique, k.negotiations.length]).toEqual([0, unique, 1]);
  });

  it('shows handlers the number without bit 63 and echoes it with', async () => {
    const seen: [bigint, boolean][] = [];
    class Watching extends ToyFileSystem {
      override mkdir(ctx: RequestContext, parent: number, name: string, mode: number): Entry {
        seen.push([ctx.unique, ctx.resent]);
        return super.mkdir(ctx, parent, name, mode);
      }
    }
    const toy = new Watching();
    const k = kernel(toy);
    const unique = (1n << 63n) | 0x1_0000_0004n;
    expect((await k.ask(Opcode.MKDIR, 1, pack(0o755, 0, 'd'), { unique })).unique).toBe(unique);
    await k.ask(Opcode.MKDIR, 1, pack(0o755, 0, 'e'), { unique: 6n });
    expect(seen).toEqual([[0x1_0000_0004n, true], [6n, false]]);
    expect(toy.deliveredOps).toEqual([0x1_0000_0004n, 6n]);
  });
});

describe('replay rows (K11, K12)', () => {
  it('every request that may change something is over once it is answered, closing a file too', async () => {
    const toy = new ToyFileSystem({ files: { f: 1 } });
    const k = kernel(toy);
    const { body } = await k.ask(Opcode.LOOKUP, 1, pack('f'));
    const ino = Number(body.readBigUInt64LE(0));
    const fh = (await k.ask(Opcode.OPEN, ino, pack(0, 0))).body.readBigUInt64LE(0);
    await k.ask(Opcode.RELEASE, ino, pack(fh, 0, 0, 0n));
    await k.ask(Opcode.UNLINK, 1, pack('f'));
    expect(toy.deliveredOps).toEqual([4n, 6n, 8n]);
  });

  it('one that failed is over as well', async () => {
    const toy = new ToyFileSystem();
    const k = kernel(toy);
    expect((await k.ask(Opcode.UNLINK, 1, pack('nothing'))).error).toBe(-Errno.ENOENT);
    expect([toy.deliveredOps, toy.undeliveredOps]).toEqual([[], [2n]]);
  });

  it('one whose answer nobody takes is over as well', async () => {
    let answer!: () => void;
    class Slow extends ToyFileSystem {
      override unlink(): Promise<void> { return new Promise((resolve) => { answer = resolve; }); }
    }
    const toy = new Slow();
    const k = kernel(toy);
    k.send(Opcode.UNLINK, 1, pack('f'));
    await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n));
    k.hangUp();
    answer();
    await k.ended;
    expect([toy.deliveredOps, toy.undeliveredOps]).toEqual([[], [2n]]);
  });
});

describe('answers', () => {
  it('a negative entry has nodeid 0 and its validity; without validity it is ENOENT', async () => {
    const k = kernel(new ToyFileSystem());
    const negative = await k.ask(Opcode.LOOKUP, 1, pack('negative-1'));
    expect([negative.error, negative.body.length, negative.body.readBigUInt64LE(0), negative.body.readBigUInt64LE(16)]).toEqual([0, 128, 0n, 60n]);
    expect((await k.ask(Opcode.LOOKUP, 1, pack('other'))).error).toBe(-Errno.ENOENT);
    expect(k.metrics.get('fuse.errors.ENOENT')).toBe(1);
  });

  it('count requests and time them', async () => {
    const k = kernel(new ToyFileSystem());
    for (let i = 0; i < 3; i++) await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n));
    expect(k.metrics.get('fuse.requests.getattr')).toBe(3);
    expect(k.metrics.histogram('fuse.latency_us.getattr')!.count).toBe(3);
  });

  it('READ returns what the handler read, in one message', async () => {
    const k = kernel(new ToyFileSystem({ files: { f: 0 } }));
    await k.ask(Opcode.WRITE, 2, pack(2n, 3n, 5, 0, 0n, 1, 0, Buffer.from('hello')));
    expect((await k.ask(Opcode.READ, 2, readIn(2, 0, 4096))).body.toString()).toBe('\0\0\0hello');
    expect((await k.ask(Opcode.READ, 2, readIn(2, 5, 2))).body.toString()).toBe('ll');
  });

  it('an answer that only waits for microtasks is not held up until the next request', async () => {
    class Async extends ToyFileSystem {
      override getattr(...args: Parameters<ToyFileSystem['getattr']>): never {
        return Promise.resolve().then(() => super.getattr(...args)) as never;
      }
    }
    const k = kernel(new Async());
    expect((await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n))).body.readBigUInt64LE(16)).toBe(1n);
  });

  it('getxattr and listxattr say their size, fit, or are ERANGE', async () => {
    const toy = new ToyFileSystem();
    const k = kernel(toy);
    toy.setxattr(undefined as never, 1, 'user.a', Buffer.from('12345'), 0);
    toy.setxattr(undefined as never, 1, 'user.b', Buffer.from(''), 0);
    const get = (size: number) => k.ask(Opcode.GETXATTR, 1, pack(size, 0, 'user.a'));
    expect((await get(0)).body.readUInt32LE(0)).toBe(5);
    expect((await get(5)).body.toString()).toBe('12345');
    expect((await get(4)).error).toBe(-Errno.ERANGE);
    const list = (size: number) => k.ask(Opcode.LISTXATTR, 1, pack(size, 0));
    expect((await list(0)).body.readUInt32LE(0)).toBe(14);
    expect((await list(100)).body.toString()).toBe('user.a\0user.b\0');
    expect((await list(13)).error).toBe(-Errno.ERANGE);
    expect((await k.ask(Opcode.GETXATTR, 1, pack(0, 0, 'user.none'))).error).toBe(-Errno.ENODATA);
  });

  it('unknown and unsupported operations are ENOSYS, ioctl is ENOTTY (K3)', async () => {
    const k = kernel(new ToyFileSystem());
    for (const opcode of [Opcode.ACCESS, Opcode.GETLK, Opcode.BMAP, Opcode.POLL, Opcode.SYNCFS, Opcode.COPY_FILE_RANGE_64, 99]) {
      expect((await k.ask(opcode, 1, Buffer.alloc(64))).error).toBe(-Errno.ENOSYS);
    }
    expect((await k.ask(Opcode.IOCTL, 1, Buffer.alloc(32))).error).toBe(-Errno.ENOTTY);
  });

  it('passes the supplementary group that owns the parent directory on', async () => {
    let seen: number | undefined;
    class Watching extends ToyFileSystem {
      override mkdir(ctx: RequestContext, parent: number, name: string, mode: number): Entry {
        seen = ctx.supplementaryGid;
        return super.mkdir(ctx, parent, name, mode);
      }
    }
    const k = kernel(new Watching());
    await k.ask(Opcode.MKDIR, 1, pack(0o755, 0, 'd'), { extension: pack(16, 32, 1, 777) });
    expect(seen).toBe(777);
  });
});

describe('errors', () => {
  class Failing extends ToyFileSystem {
    thrown: unknown;
    override statfs(): never { throw this.thrown; }
    override rmdir(): never { return Promise.reject(this.thrown as Error) as never; }
  }

  it('FsError and system errors keep their errno, thrown or rejected; anything else is logged once and EIO', async () => {
    const failing = new Failing();
    const k = kernel(failing);
    for (const [error, errno, lines] of [
      [new FsError(Errno.ENOSPC), Errno.ENOSPC, 0], [Object.assign(new Error('no'), { errno: -13, code: 'EACCES' }), Errno.EACCES, 1],
      [new TypeError('bug'), Errno.EIO, 1], ['not even an error', Errno.EIO, 1],
    ] as const) {
      failing.thrown = error;
      for (const ask of [() => k.ask(Opcode.STATFS, 1), () => k.ask(Opcode.RMDIR, 1, pack('d'))]) {
        k.logLines.length = 0;
        expect((await ask()).error).toBe(-errno);
        expect(k.logLines.length).toBe(lines);
      }
    }
  });

  it('malformed frames are EINVAL and do not disturb what follows', async () => {
    const k = kernel(new ToyFileSystem());
    expect((await k.ask(Opcode.LOOKUP, 1, Buffer.from('no terminator'))).error).toBe(-Errno.EINVAL);
    expect((await k.ask(Opcode.WRITE, 1, pack(1n, 0n, 4000, 0, 0n, 0, 0, Buffer.from('short')))).error).toBe(-Errno.EINVAL);
    expect((await k.ask(Opcode.LOOKUP, 1, pack('n'.repeat(256)))).error).toBe(-Errno.ENAMETOOLONG);
    k.sendRaw(Buffer.alloc(39));
    k.send(Opcode.FORGET, 1, Buffer.alloc(0));
    expect((await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n))).error).toBe(0);
    expect(k.strays).toEqual([]);
  });
});

describe('interrupts', () => {
  it('INTERRUPT aborts the waiting request, which answers EINTR', async () => {
    const k = kernel(new ToyFileSystem({ files: { block: 1 } }));
    const reading = k.ask(Opcode.READ, 2, readIn(2, 0, 10), { unique: 10n });
    await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n)); // others go on meanwhile
    k.send(Opcode.INTERRUPT, 0, pack(10n), { unique: 11n });
    expect((await reading).error).toBe(-Errno.EINTR);
    expect(k.metrics.get('fuse.in_flight')).toBe(0);
  });

  it('one that overtakes its request aborts it from the start', async () => {
    const k = kernel(new ToyFileSystem({ files: { block: 1 } }));
    k.send(Opcode.INTERRUPT, 0, pack((1n << 63n) | 10n), { unique: 11n });
    expect((await k.ask(Opcode.READ, 2, readIn(2, 0, 10), { unique: (1n << 63n) | 10n })).error).toBe(-Errno.EINTR);
  });

  it('late ones for requests answered long ago are forgotten', async () => {
    const k = kernel(new ToyFileSystem());
    for (let i = 0; i < 2000; i++) {
      k.send(Opcode.INTERRUPT, 0, pack(BigInt(i * 2)), { unique: 1n });
      if (i % 100 === 0) await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n), { unique: BigInt(100_000 + i * 2) });
    }
    expect(k.strays).toEqual([]);
  });

  it('the end of the mount aborts what waits, tells the file system and says why', async () => {
    const toy = new ToyFileSystem({ files: { block: 1 } });
    const k = kernel(toy);
    k.send(Opcode.READ, 2, readIn(2, 0, 10));
    await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n));
    k.hangUp();
    expect(await k.ended).toBe('unmounted');
    await k.session.stop();
    expect(toy.destroyedCount).toBe(1);
  });
});

describe('stop()', () => {
  it('resolves once what was taken is answered, and takes nothing more', async () => {
    let release!: () => void;
    class Slow extends ToyFileSystem {
      override fsync(): Promise<void> { return new Promise((resolve) => { release = resolve; }); }
    }
    const k = kernel(new Slow());
    const fsync = k.ask(Opcode.FSYNC, 1, pack(1n, 0, 0));
    await k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n));
    let stopped = false;
    const stopping = k.session.stop().then(() => { stopped = true; });
    k.send(Opcode.GETATTR, 1, pack(0, 0, 0n));
    await new Promise(setImmediate);
    expect(stopped).toBe(false);
    release();
    await stopping;
    expect((await fsync).error).toBe(0);
    expect(k.metrics.get('fuse.requests.getattr')).toBe(1);
  });
});

describe('directories', () => {
  const names = (body: Buffer, plus: boolean): { name: string; off: number; nodeid: number }[] => {
    const list = [];
    for (let at = 0; at < body.length;) {
      const dirent = at + (plus ? 128 : 0);
      const length = body.readUInt32LE(dirent + 16);
      list.push({ name: body.toString('utf8', dirent + 24, dirent + 24 + length), off: Number(body.readBigUInt64LE(dirent + 8)), nodeid: plus ? Number(body.readBigUInt64LE(at)) : 0 });
      at = dirent + ((24 + length + 7) & ~7);
    }
    return list;
  };

  it('READDIR and READDIRPLUS give every name once, across replies, and count a lookup for each but dots', async () => {
    const files = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`${'x'.repeat(i % 17)}-${i}`, i]));
    for (const plus of [false, true]) {
      const toy = new ToyFileSystem({ files });
      const k = kernel(toy);
      const seen: { name: string; nodeid: number }[] = [];
      for (let offset = 0; ;) {
        const { body } = await k.ask(plus ? Opcode.READDIRPLUS : Opcode.READDIR, 1, readIn(1, offset, 1000));
        expect(body.length).toBeLessThanOrEqual(1000);
        if (body.length === 0) break;
        const part = names(body, plus);
        seen.push(...part);
        offset = part.at(-1)!.off;
      }
      expect(seen.map((entry) => entry.name)).toEqual(['.', '..', ...Object.keys(files)]);
      expect(seen.filter((entry) => entry.nodeid > 0).length).toBe(plus ? 100 : 0);
      expect([...toy.lookups.values()].reduce((a, b) => a + b, 0)).toBe(plus ? 100 : 0);
    }
  });

  it('lookups of a listing that fails half way are undone', async () => {
    class Failing extends ToyFileSystem {
      override readdir(ctx: RequestContext, ino: number, fh: number, offset: number, sink: DirentSink): never {
        super.readdir(ctx, ino, fh, offset, sink);
        throw new FsError(Errno.EIO);
      }
    }
    const toy = new Failing({ files: { a: 1, b: 2 } });
    const k = kernel(toy);
    expect((await k.ask(Opcode.READDIRPLUS, 1, readIn(1, 0, 4096))).error).toBe(-Errno.EIO);
    expect([...toy.lookups.values()]).toEqual([0, 0]);
  });
});

describe('fairness', () => {
  it('a flood of slow requests does not keep timers from running', async () => {
    let served = 0;
    class Busy extends ToyFileSystem {
      override getattr(...args: Parameters<ToyFileSystem['getattr']>): ReturnType<ToyFileSystem['getattr']> {
        served++;
        for (const until = performance.now() + 2; performance.now() < until;);
        return super.getattr(...args);
      }
    }
    const k = kernel(new Busy());
    const flood = Array.from({ length: 20 }, () => k.ask(Opcode.GETATTR, 1, pack(0, 0, 0n)));
    const servedAtImmediate = await new Promise<number>((resolve) => setImmediate(() => setImmediate(() => resolve(served))));
    await Promise.all(flood);
    expect(served).toBe(20);
    expect(servedAtImmediate).toBeLessThan(20);
  });
});
