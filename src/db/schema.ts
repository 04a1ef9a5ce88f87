/**
 * The tables of a mount's database `state.db`, as numbered migrations. One file, because the tables refer to each other's
 * keys; each table still belongs to one room, named in its comment, and only that room writes SQL for it.
 *
 * Words: an inode's `gen` numbers its content: it moves when a sealed or clean content is about to change. `mgen` numbers what S3 stores
 * as its metadata. What S3 holds under a key (`object`) names the (ino, gen, mgen) it was made from, so "clean" is an
 * equality, and "who else holds these bytes" is a lookup by (ino, gen) (J1). Keys are relative to the mount's prefix;
 * a directory's key ends in `/`.
 */
export const migrations: readonly { readonly version: number; readonly sql: string }[] = [
  {
    version: 1,
    sql: `
-- db: small facts. format, bucket identity, id high-water marks, capabilities, negotiated INIT, boot id, clean-shutdown mark.
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- meta: one row per inode. Never reused, never changes type (K14).
CREATE TABLE inode (
  ino INTEGER PRIMARY KEY,
  mode INTEGER NOT NULL,             -- with type bits
  uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL DEFAULT 0,
  size INTEGER NOT NULL,
  atime_s INTEGER NOT NULL, atime_ns INTEGER NOT NULL,
  mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_s INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
  nlink INTEGER NOT NULL,            -- 0: orphan, kept while open
  gen INTEGER NOT NULL,              -- content generation
  mgen INTEGER NOT NULL,             -- metadata generation
  base_gen INTEGER,                  -- generation whose object holds the bytes still missing from a changed content file
  unsealed INTEGER NOT NULL,         -- 1: content may have changed since gen was last sealed; size and mtime come from the content file after a crash; 2: sealed, but what was sealed may not be synced
  attrs INTEGER NOT NULL,            -- 0: from a listing only, a HEAD must complete them; 1: complete
  content INTEGER,                   -- content file id (cache), null: nothing local
  target BLOB,                       -- symlink target bytes
  xattrs TEXT,                       -- JSON {name: base64}, null: none
  foreign_attrs TEXT,                -- JSON ObjectAttributes to carry along (J12), null: none known
  link_id TEXT,                      -- of a hard-linked file, in the metadata of all its names (J10); null: never linked
  link_offset INTEGER NOT NULL DEFAULT 0, -- the link generation in S3 is gen + link_offset: mounts number generations each for itself
  last_modified INTEGER,             -- of the object the attributes came from, ms, server clock (O1)
  -- directories only:
  marker INTEGER NOT NULL DEFAULT 0, -- 1: 'dir/' must exist in S3 by itself
  complete INTEGER NOT NULL DEFAULT 0, -- 1: every name in it is known
  listed_at INTEGER NOT NULL DEFAULT 0, -- ms, when the listing that made or last confirmed it complete started
  opens INTEGER NOT NULL DEFAULT 0   -- open handles; maintained only while nlink = 0
);
CREATE INDEX inode_unsealed ON inode(ino) WHERE unsealed = 1;
CREATE INDEX inode_orphan ON inode(ino) WHERE nlink = 0;
CREATE INDEX inode_link ON inode(link_id) WHERE link_id IS NOT NULL;

-- meta: names. id is the readdir cookie: ascending, never reused (K12).
CREATE TABLE dentry (
  id INTEGER PRIMARY KEY,
  parent INTEGER NOT NULL, name TEXT NOT NULL, ino INTEGER NOT NULL,
  checked_at INTEGER NOT NULL        -- ms, when S3 last confirmed this name, or when it was made here
);
CREATE UNIQUE INDEX dentry_name ON dentry(parent, name);
CREATE INDEX dentry_ino ON dentry(ino);
CREATE INDEX dentry_order ON dentry(parent, id);

-- meta: what S3 holds under each key we know (J1). No row: unknown. etag NULL: known absent.
CREATE TABLE object (
  key TEXT PRIMARY KEY,
  etag TEXT, size INTEGER, last_modified INTEGER, version_id TEXT,
  ino INTEGER, gen INTEGER, mgen INTEGER  -- what it was made from, or assigned to it when it was discovered
) WITHOUT ROWID;
CREATE INDEX object_content ON object(ino, gen) WHERE etag IS NOT NULL;

-- journal: one row per key where S3 may differ from the tree. Level-triggered: it says *look here*, not what to do.
CREATE TABLE journal (
  key TEXT PRIMARY KEY,
  since INTEGER NOT NULL,            -- ms, when it first differed
  due INTEGER NOT NULL,              -- ms, not before
  tries INTEGER NOT NULL DEFAULT 0,
  parked TEXT,                       -- reason that needs a person or a change, null: will be tried
  error TEXT                         -- last failure, for people
) WITHOUT ROWID;
CREATE INDEX journal_due ON journal(due) WHERE parked IS NULL;

-- journal: subtrees whose keys all changed by a directory rename (J8): walk them, add journal rows for children.
CREATE TABLE walk (id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, old_prefix TEXT NOT NULL);

-- journal: what was sent and not yet known to have arrived (J2), durable before it leaves (J3). Also tombstones (J6).
CREATE TABLE attempt (
  key TEXT PRIMARY KEY,
  op TEXT NOT NULL,                  -- put | copy | delete | multipart
  nonce TEXT NOT NULL,
  expected TEXT,                     -- destination etag demanded, null: must not exist
  source_key TEXT, source_etag TEXT,
  ino INTEGER, gen INTEGER, mgen INTEGER,
  upload_id TEXT, part_size INTEGER, parts TEXT, -- JSON [{number, etag, sizeBytes, crc}]
  sent_at INTEGER NOT NULL,
  outcome TEXT NOT NULL              -- sent | ambiguous | tombstone
) WITHOUT ROWID;

-- journal: losers of races, kept beside the winner and reported (promise 2).
CREATE TABLE conflict (id INTEGER PRIMARY KEY, key TEXT NOT NULL, kept_as TEXT, reason TEXT NOT NULL, at INTEGER NOT NULL);

-- cache: content files on disk. path is content/<id mod 256, hex>/<id>; ids are never reused (J3).
CREATE TABLE content (
  id INTEGER PRIMARY KEY,
  missing BLOB NOT NULL,             -- RangeSet of bytes not present locally; empty blob: fully present
  checksums BLOB,                    -- CRC32 per 128 KiB block of a clean, fully present, synced file; null: none yet
  allocated INTEGER NOT NULL,        -- bytes of disk at last count
  dirty INTEGER NOT NULL,            -- 1: holds bytes S3 lacks: never evicted
  pinned INTEGER NOT NULL DEFAULT 0, -- 1: by the operator
  hits INTEGER NOT NULL DEFAULT 0,   -- eviction state (S3-FIFO): 0..3
  queue INTEGER NOT NULL DEFAULT 0,  -- 0 small, 1 main
  used_at INTEGER NOT NULL
);

-- fs: content files the kernel reads and writes itself: the id each inode is registered under on this connection (K5, K12).
-- ctime_ns and size: those of the content file when the sealed inode was opened for writing, null without writers; others now mean it was written.
CREATE TABLE backing (ino INTEGER PRIMARY KEY, backing_id INTEGER NOT NULL, ctime_ns TEXT, size INTEGER);

-- fs: answers to mutating requests whose reply may not have left (K11).
CREATE TABLE replay (uniq TEXT PRIMARY KEY, opcode TEXT NOT NULL, result TEXT NOT NULL) WITHOUT ROWID;
`,
  },
  {
    version: 2,
    sql: `
-- writeback: SHA-256 of the blocks of a big file's content as it was sent to S3: what a later version need not send again. One row per inode, of the
-- newest generation that was sent; 32 bytes per block of block bytes, the last one short, all zeros: not known.
CREATE TABLE block_digest (ino INTEGER PRIMARY KEY, gen INTEGER NOT NULL, block INTEGER NOT NULL, size INTEGER NOT NULL, sums BLOB NOT NULL);
`,
  },
  {
    version: 3,
    sql: `
-- cache: RangeSet of bytes that were missing, were written here, and may not be on the disk: after a power cut they are missing again. null: none.
ALTER TABLE content ADD COLUMN unsynced BLOB;
`,
  },
  {
    version: 4,
    sql: `
-- cache: what a run that crashed had not uploaded is asked for before the mount serves, also of a table with a million rows.
CREATE INDEX content_dirty ON content(id) WHERE dirty = 1;
`,
  },
];
