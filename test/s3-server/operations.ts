/**
 * Test and demo equipment, not product: which S3 operation a request is, from method, path, query and headers; and with which
 * permission it is guarded.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { S3Error } from './errors.js';
import type { RequestKind } from './faults.js';

export interface Operation { readonly name: OperationName; readonly kind: RequestKind; readonly action: string }

/** Bucket sub-resources that are stored and given back as sent. */
export const bucketDocuments = [
  'versioning', 'policy', 'lifecycle', 'notification', 'tagging', 'cors', 'object-lock', 'encryption', 'website', 'logging',
  'accelerate', 'requestPayment', 'publicAccessBlock', 'ownershipControls', 'replication', 'acl',
] as const;
export type BucketDocument = (typeof bucketDocuments)[number];

const table = {
  ListBuckets: ['BUCKET', 's3:ListAllMyBuckets'],
  CreateBucket: ['BUCKET', 's3:CreateBucket'],
  DeleteBucket: ['BUCKET', 's3:DeleteBucket'],
  HeadBucket: ['BUCKET', 's3:ListBucket'],
  GetBucketLocation: ['BUCKET', 's3:GetBucketLocation'],
  GetBucketDocument: ['BUCKET', 's3:GetBucketConfiguration'],
  PutBucketDocument: ['BUCKET', 's3:PutBucketConfiguration'],
  DeleteBucketDocument: ['BUCKET', 's3:PutBucketConfiguration'],
  ListObjectsV2: ['LIST', 's3:ListBucket'],
  ListObjects: ['LIST', 's3:ListBucket'],
  ListObjectVersions: ['LIST', 's3:ListBucketVersions'],
  ListMultipartUploads: ['LIST_UPLOADS', 's3:ListBucketMultipartUploads'],
  DeleteObjects: ['DELETE_MANY', 's3:DeleteObject'],
  GetObject: ['GET', 's3:GetObject'],
  HeadObject: ['HEAD', 's3:GetObject'],
  PutObject: ['PUT', 's3:PutObject'],
  CopyObject: ['COPY', 's3:PutObject'],
  DeleteObject: ['DELETE', 's3:DeleteObject'],
  CreateMultipartUpload: ['CREATE_MPU', 's3:PutObject'],
  UploadPart: ['PART', 's3:PutObject'],
  UploadPartCopy: ['PART_COPY', 's3:PutObject'],
  CompleteMultipartUpload: ['COMPLETE', 's3:PutObject'],
  AbortMultipartUpload: ['ABORT', 's3:AbortMultipartUpload'],
  ListParts: ['LIST_PARTS', 's3:ListMultipartUploadParts'],
  GetObjectAttributes: ['OBJECT_CONFIG', 's3:GetObject'],
  GetObjectTagging: ['OBJECT_CONFIG', 's3:GetObjectTagging'],
  PutObjectTagging: ['OBJECT_CONFIG', 's3:PutObjectTagging'],
  DeleteObjectTagging: ['OBJECT_CONFIG', 's3:DeleteObjectTagging'],
  GetObjectRetention: ['OBJECT_CONFIG', 's3:GetObjectRetention'],
  PutObjectRetention: ['OBJECT_CONFIG', 's3:PutObjectRetention'],
  GetObjectLegalHold: ['OBJECT_CONFIG', 's3:GetObjectLegalHold'],
  PutObjectLegalHold: ['OBJECT_CONFIG', 's3:PutObjectLegalHold'],
  GetObjectAcl: ['OBJECT_CONFIG', 's3:GetObjectAcl'],
  PutObjectAcl: ['OBJECT_CONFIG', 's3:PutObjectAcl'],
  RestoreObject: ['OBJECT_CONFIG', 's3:RestoreObject'],
} as const satisfies Record<string, readonly [RequestKind, string]>;

export type OperationName = keyof typeof table;

const operations = Object.fromEntries(Object.entries(table).map(([name, [kind, action]]) => [name, { name, kind, action }])) as Record<OperationName, Operation>;

export function operationOf(method: string, bucket: string, key: string, query: ReadonlyMap<string, string>, headers: IncomingHttpHeaders): Operation {
  const name = bucket === '' ? serviceOperation(method) : key === '' ? bucketOperation(method, query) : objectOperation(method, query, headers);
  if (!name) throw new S3Error('MethodNotAllowed', undefined, { Method: method, ResourceType: key === '' ? 'BUCKET' : 'OBJECT' });
  return operations[name];
}

export function bucketDocumentOf(query: ReadonlyMap<string, string>): BucketDocument | undefined {
  return query.size === 0 ? undefined : bucketDocuments.find((name) => query.has(name));
}

function serviceOperation(method: string): OperationName | undefined {
  return method === 'GET' ? 'ListBuckets' : undefined;
}

function bucketOperation(method: string, query: ReadonlyMap<string, string>): OperationName | undefined {
  const document = bucketDocumentOf(query) !== undefined;
  switch (method) {
    case 'GET':
      if (query.has('list-type')) return 'ListObjectsV2';
      if (query.has('location')) return 'GetBucketLocation';
      if (query.has('versions')) return 'ListObjectVersions';
      if (query.has('uploads')) return 'ListMultipartUploads';
      return document ? 'GetBucketDocument' : 'ListObjects';
    case 'HEAD': return 'HeadBucket';
    case 'PUT': return document ? 'PutBucketDocument' : 'CreateBucket';
    case 'DELETE': return document ? 'DeleteBucketDocument' : 'DeleteBucket';
    case 'POST': return query.has('delete') ? 'DeleteObjects' : undefined;
    default: return undefined;
  }
}

function objectOperation(method: string, query: ReadonlyMap<string, string>, headers: IncomingHttpHeaders): OperationName | undefined {
  const copies = headers['x-amz-copy-source'] !== undefined;
  if (query.size > 0) {
    if (query.has('uploadId')) {
      switch (method) {
        case 'GET': return 'ListParts';
        case 'PUT': return copies ? 'UploadPartCopy' : 'UploadPart';
        case 'POST': return 'CompleteMultipartUpload';
        case 'DELETE': return 'AbortMultipartUpload';
        default: return undefined;
      }
    }
    if (query.has('uploads')) return method === 'POST' ? 'CreateMultipartUpload' : undefined;
    if (query.has('tagging')) return method === 'GET' ? 'GetObjectTagging' : method === 'PUT' ? 'PutObjectTagging' : method === 'DELETE' ? 'DeleteObjectTagging' : undefined;
    if (query.has('retention')) return method === 'GET' ? 'GetObjectRetention' : method === 'PUT' ? 'PutObjectRetention' : undefined;
    if (query.has('legal-hold')) return method === 'GET' ? 'GetObjectLegalHold' : method === 'PUT' ? 'PutObjectLegalHold' : undefined;
    if (query.has('attributes')) return method === 'GET' ? 'GetObjectAttributes' : undefined;
    if (query.has('acl')) return method === 'GET' ? 'GetObjectAcl' : method === 'PUT' ? 'PutObjectAcl' : undefined;
    if (query.has('restore')) return method === 'POST' ? 'RestoreObject' : undefined;
  }
  switch (method) {
    case 'GET': return 'GetObject';
    case 'HEAD': return 'HeadObject';
    case 'PUT': return copies ? 'CopyObject' : 'PutObject';
    case 'DELETE': return 'DeleteObject';
    default: return undefined;
  }
}
