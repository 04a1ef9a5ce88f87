/**
 * Content-Type of a new file by its extension. A small table of what browsers and CDNs must get right; everything else is
 * `application/octet-stream`, as s3fs does. An object that already has a type keeps it (J12), so this is asked once per file.
 */
export const directoryContentType = 'application/x-directory';
export const defaultContentType = 'application/octet-stream';

const byExtension: Readonly<Record<string, string>> = {
  aac: 'audio/aac', ai: 'application/postscript', apk: 'application/vnd.android.package-archive', apng: 'image/apng', atom: 'application/atom+xml',
  avi: 'video/x-msvideo', avif: 'image/avif', bmp: 'image/bmp', br: 'application/x-brotli', bz2: 'application/x-bzip2', c: 'text/x-c', cbor: 'application/cbor',
  css: 'text/css', csv: 'text/csv', dng: 'image/x-adobe-dng', doc: 'application/msword', docx: 'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
  eot: 'application/vnd.ms-fontobject', eps: 'application/postscript', epub: 'application/epub+zip', flac: 'audio/flac', gif: 'image/gif', gz: 'application/gzip',
  heic: 'image/heic', heif: 'image/heif', htm: 'text/html', html: 'text/html', ico: 'image/vnd.microsoft.icon', ics: 'text/calendar', jar: 'application/java-archive',
  jpe: 'image/jpeg', jpeg: 'image/jpeg', jpg: 'image/jpeg', js: 'text/javascript', json: 'application/json', jsonld: 'application/ld+json', jxl: 'image/jxl',
  log: 'text/plain', m3u8: 'application/vnd.apple.mpegurl', m4a: 'audio/mp4', m4v: 'video/x-m4v', map: 'application/json', md: 'text/markdown', mid: 'audio/midi',
  mjs: 'text/javascript', mkv: 'video/x-matroska', mov: 'video/quicktime', mp3: 'audio/mpeg', mp4: 'video/mp4', mpeg: 'video/mpeg', mpg: 'video/mpeg',
  odp: 'application/vnd.oasis.opendocument.presentation', ods: 'application/vnd.oasis.opendocument.spreadsheet', odt: 'application/vnd.oasis.opendocument.text',
  oga: 'audio/ogg', ogg: 'audio/ogg', ogv: 'video/ogg', opus: 'audio/ogg', otf: 'font/otf', parquet: 'application/vnd.apache.parquet', pdf: 'application/pdf', png: 'image/png',
  ppt: 'application/vnd.ms-powerpoint', pptx: 'application/vnd.openxmlformats-officedocument.presentationml.presentation', ps: 'application/postscript',
  psd: 'image/vnd.adobe.photoshop', rar: 'application/vnd.rar', rss: 'application/rss+xml', rtf: 'application/rtf', sh: 'application/x-sh', sqlite: 'application/vnd.sqlite3',
  svg: 'image/svg+xml', tar: 'application/x-tar', tgz: 'application/gzip', tif: 'image/tiff', tiff: 'image/tiff', toml: 'application/toml', ts: 'video/mp2t', ttf: 'font/ttf',
  txt: 'text/plain', vtt: 'text/vtt', wasm: 'application/wasm', wav: 'audio/wav', weba: 'audio/webm', webm: 'video/webm', webmanifest: 'application/manifest+json', webp: 'image/webp',
  woff: 'font/woff', woff2: 'font/woff2', xhtml: 'application/xhtml+xml', xls: 'application/vnd.ms-excel',
  xlsx: 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', xml: 'application/xml', xz: 'application/x-xz', yaml: 'application/yaml', yml: 'application/yaml',
  zip: 'application/zip', zst: 'application/zstd', '7z': 'application/x-7z-compressed',
};

/** `key` may be a name or a whole key; one that ends in `/` is a directory marker. */
export function contentTypeOf(key: string): string {
  if (key.endsWith('/')) return directoryContentType;
  const name = key.slice(key.lastIndexOf('/') + 1);
  const dot = name.lastIndexOf('.');
  if (dot <= 0) return defaultContentType; // `.profile` has no extension
  return byExtension[name.slice(dot + 1).toLowerCase()] ?? defaultContentType;
}
