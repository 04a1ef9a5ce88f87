/** Notifications to the kernel as bytes: out header with unique 0 and the code in `error`, then the struct, then name and NUL. */
import { nameToBytes } from '../base/file-name.js';
import { InvalEntryFlag, NotifyCode, outHeaderBytes } from './abi.js';
import { putHeader, putI64 } from './encode.js';

function notice(code: number, structBytes: number, name: string | undefined): { message: Buffer; view: DataView; nameLength: number } {
  const bytes = name === undefined ? Buffer.alloc(0) : nameToBytes(name);
  const message = Buffer.alloc(outHeaderBytes + structBytes + (name === undefined ? 0 : bytes.length + 1));
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  putHeader(view, 0, message.length, code, 0, 0);
  bytes.copy(message, outHeaderBytes + structBytes);
  return { message, view, nameLength: bytes.length };
}

/** The name is looked up again next time it is used. `expireOnly` leaves what is open or mounted below it alone (K10). */
export function invalEntry(parent: number, name: string, expireOnly: boolean): Buffer {
  const { message, view, nameLength } = notice(NotifyCode.INVAL_ENTRY, 16, name);
  putI64(view, 16, parent);
  view.setUint32(24, nameLength, true);
  view.setUint32(28, expireOnly ? InvalEntryFlag.EXPIRE_ONLY : 0, true);
  return message;
}

/** Attributes are asked again; cached pages of [offset, offset + length) go, length 0 or less: to the end. A negative offset: attributes only. */
export function invalInode(ino: number, offset: number, length: number): Buffer {
  const { message, view } = notice(NotifyCode.INVAL_INODE, 24, undefined);
  putI64(view, 16, ino);
  putI64(view, 24, offset);
  putI64(view, 32, length);
  return message;
}

/** The name is gone: as INVAL_ENTRY, and watchers (inotify) are told of a deletion. */
export function deleteEntry(parent: number, child: number, name: string): Buffer {
  const { message, view, nameLength } = notice(NotifyCode.DELETE, 24, name);
  putI64(view, 16, parent);
  putI64(view, 24, child);
  view.setUint32(32, nameLength, true);
  return message;
}
