/** A TCP relay before an S3 server, whichever it is: what the network does to a mount. In the test process, which must never block. */
import net from 'node:net';

type Mode = 'open' | 'refusing' | 'silent';

export class Gate {
  /** Added to each piece of every answer. */
  latencyMs = 0;
  private server: net.Server | undefined;
  private readonly sockets = new Set<net.Socket>();
  private mode: Mode = 'open';
  private port = 0;
  connections = 0;

  private constructor(private readonly target: { readonly host: string; readonly port: number }) {}

  static async to(endpoint: string): Promise<Gate> {
    const url = new URL(endpoint);
    if (url.protocol !== 'http:') throw new Error(`A gate relays http only, not ${endpoint}`);
    const gate = new Gate({ host: url.hostname, port: Number(url.port || 80) });
    await gate.listen();
    return gate;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The server is gone: connections break, new ones are refused. */
  async stop(): Promise<void> {
    this.mode = 'refusing';
    const server = this.server;
    this.server = undefined;
    const closed = new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  /** The network swallows everything: connections are taken and nothing is answered. */
  silence(): void {
    this.mode = 'silent';
  }

  async start(): Promise<void> {
    const wasSilent = this.mode === 'silent';
    this.mode = 'open';
    if (wasSilent) for (const socket of this.sockets) socket.destroy();
    if (!this.server) await this.listen();
  }

  private async listen(): Promise<void> {
    const server = net.createServer((client) => this.relay(client));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, '127.0.0.1', resolve);
    });
    this.port = (server.address() as net.AddressInfo).port;
    this.server = server;
  }

  private relay(client: net.Socket): void {
    this.connections++;
    this.track(client);
    if (this.mode === 'silent') return;
    const upstream = net.connect(this.target);
    this.track(upstream);
    for (const [from, to] of [[client, upstream], [upstream, client]] as const) {
      from.setNoDelay(true);
      from.on('data', (piece) => {
        if (this.mode === 'silent') return;
        const send = (): void => {
          if (to.destroyed) return;
          if (!to.write(piece)) {
            from.pause();
            to.once('drain', () => from.resume());
          }
        };
        if (from === upstream && this.latencyMs > 0) setTimeout(send, this.latencyMs);
        else send();
      });
      from.on('end', () => setTimeout(() => to.end(), from === upstream ? this.latencyMs : 0));
      from.on('close', () => setTimeout(() => to.destroy(), from === upstream ? this.latencyMs + 50 : 50));
    }
  }

  private track(socket: net.Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
  }
}
