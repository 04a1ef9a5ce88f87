/** Test and demo equipment, not product: how other servers differ from AWS. Everything off is AWS. Changeable while running. */
export interface Capabilities {
  /** Conditions this server does not look at (O2). */
  ignoreConditions: { putIf?: boolean; completeIf?: boolean; copySource?: boolean; copyDest?: boolean; deleteIfMatch?: boolean };
  /** Ceph RGW 16: PUT If-Match holds only with the etag unquoted. */
  quotedIfMatchFails: boolean;
  /** Ceph RGW 16: PUT If-Match on a missing key is 412, not 404. */
  missingIfMatchIs412: boolean;
  /** Ceph RGW 16: bodies with trailing checksums are refused (411 without a length, else 400). */
  refuseTrailers: boolean;
  /** Swift s3api: any condition on PUT is 501. */
  conditionalPutIs501: boolean;
  /** Ceph RGW 16: Complete's reply has an empty ETag. */
  completeEtagEmpty: boolean;
  /** The Server header. */
  serverHeader: string;
}

export function awsCapabilities(): Capabilities {
  return {
    ignoreConditions: {}, quotedIfMatchFails: false, missingIfMatchIs412: false, refuseTrailers: false, conditionalPutIs501: false,
    completeEtagEmpty: false, serverHeader: 'hearthfs-test-s3',
  };
}

/** Ceph RGW 16.2.15 as tried out. */
export function cephCapabilities(): Capabilities {
  return {
    ...awsCapabilities(), ignoreConditions: { completeIf: true, copySource: true, copyDest: true, deleteIfMatch: true },
    quotedIfMatchFails: true, missingIfMatchIs412: true, refuseTrailers: true, completeEtagEmpty: true,
  };
}
