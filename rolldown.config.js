// Each process and thread as one file: docs/decisions/035-what-starting-costs.md
const entries = ['cli/main', 'cli/mount-helper', 'daemon/supervisor-main', 'daemon/daemon-main', 'transfer/worker', 'fuse/notifier-worker', 'db/checkpoint-worker'];

export default entries.map((entry, i) => {
  const name = entry.split('/')[1];
  return {
    input: { [name]: `dist/src/${entry}.js` },
    platform: 'node',
    external: ['koffi', 'better-sqlite3', '@aws-sdk/client-s3', 'fast-xml-parser'],
    // no directories below: modules find their workers beside them
    output: { dir: 'dist/bundle', cleanDir: i === 0, entryFileNames: '[name].js', chunkFileNames: `${name}-[name].js`, comments: { annotation: true, legal: true, jsdoc: false } },
  };
});
