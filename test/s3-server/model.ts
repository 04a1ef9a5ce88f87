/** Test and demo equipment, not product: what the server remembers. All of it is plain JSON, for the journal. */
import type { Algorithm } from './checksums.js';
import type { Segment } from './blob-store.js';

export type ChecksumType = 'FULL_OBJECT' | 'COMPOSITE';
export interface StoredChecksum { readonly algorithm: Algorithm; /** As sent: base64, with `-N` if composite. */ readonly value: string; readonly type: ChecksumType }
export interface Tag { readonly key: string; readonly value: string }
export interface Retention { readonly mode: string; readonly untilMs: number }

/** What comes in with the headers of a PUT, CreateMultipartUpload or a replacing COPY. */
export interface Attributes {
  /** User metadata, names in lower case without `x-amz-meta-`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Content-Type and the other headers to be given back verbatim, names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly storageClass: string;
  readonly tags?: readonly Tag[];
  readonly retention?: Retention;
  readonly legalHold?: boolean;
  /** MD5 of the customer's key (SSE-C). The bytes are not really encrypted. */
  readonly customerKeyMd5?: string;
}

export interface ObjectPart { readonly number: number; readonly size: number; readonly checksum?: string }

export interface ObjectVersion extends Attributes {
  readonly key: string;
  /** `null` in a bucket without versions. */
  readonly id: string;
  readonly deleteMarker?: true;
  /** Without quotes. */
  readonly etag: string;
  readonly size: number;
  readonly modifiedMs: number;
  readonly segments: readonly Segment[];
  /** Only of objects made by a multipart upload. */
  readonly parts?: readonly ObjectPart[];
  readonly checksum?: StoredChecksum;
  readonly restoredUntilMs?: number;
}

export interface UploadedPart {
  readonly number: number;
  readonly etag: string;
  readonly size: number;
  readonly modifiedMs: number;
  readonly segments: readonly Segment[];
  /** Base64. */
  readonly checksum?: string;
}

export interface Upload extends Attributes {
  readonly id: string;
  readonly bucket: string;
  readonly key: string;
  readonly initiatedMs: number;
  readonly checksumAlgorithm?: Algorithm;
  readonly checksumType?: ChecksumType;
}

/** One fact. A commit is a list of them that happen together; the journal is a file of such lists, one a line. */
export type Fact =
  | { readonly t: 'bucket'; readonly name: string; readonly createdMs: number; readonly lock: boolean }
  | { readonly t: 'bucket-gone'; readonly name: string }
  | { readonly t: 'config'; readonly bucket: string; readonly name: string; readonly value: string | null }
  | { readonly t: 'version'; readonly bucket: string; readonly version: ObjectVersion }
  | { readonly t: 'version-gone'; readonly bucket: string; readonly key: string; readonly id: string }
  /** Replaces a version's record in place; its bytes stay the same. */
  | { readonly t: 'amend'; readonly bucket: string; readonly version: ObjectVersion }
  | { readonly t: 'upload'; readonly upload: Upload }
  | { readonly t: 'part'; readonly uploadId: string; readonly part: UploadedPart }
  | { readonly t: 'upload-gone'; readonly uploadId: string };
