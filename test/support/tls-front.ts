import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';

/** What `openssl` made in `directory` for `name`, signed by itself; undefined where it is not installed. */
export function selfSigned(directory: string, name: string): { readonly key: string; readonly cert: string } | undefined {
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`]);
  return made.status === 0 ? { key, cert } : undefined;
}

/** Listens with TLS on a free port of 127.0.0.1 and hands on to a plain `port` there. */
export async function tlsFront(files: { readonly key: string; readonly cert: string }, port: number): Promise<Server> {
  const server = createServer({ key: readFileSync(files.key), cert: readFileSync(files.cert) }, (socket) => {
    const inner = connect(port, '127.0.0.1');
    socket.on('error', () => inner.destroy());
    inner.on('error', () => socket.destroy());
    socket.pipe(inner).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
