// Health samples come as JSON or as the same map in msgpack; the first byte tells them apart.

const TEXT = new TextDecoder("utf-8", { fatal: true });
const DEPTH_MAX = 16;

/** Return what a payload says, or throw if it is neither JSON nor msgpack. */
export function decode(bytes) {
  const first = bytes[0];
  const isMap = (first >= 0x80 && first <= 0x8f) || first === 0xde || first === 0xdf;
  return isMap ? unpack(bytes) : JSON.parse(TEXT.decode(bytes));
}

/** Read one msgpack value of nil, booleans, numbers, texts, bytes, lists and maps. */
export function unpack(bytes) {
  return new Reader(bytes).value(0);
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  value(depth) {
    if (depth > DEPTH_MAX) throw new Error("msgpack: too deep");
    const code = this.number(1, "getUint8");
    if (code <= 0x7f) return code;
    if (code >= 0xe0) return code - 256;
    if (code <= 0x8f) return this.map(code & 15, depth);
    if (code <= 0x9f) return this.list(code & 15, depth);
    if (code <= 0xbf) return this.text(code & 31);
    switch (code) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.take(this.number(1, "getUint8"));
      case 0xc5:
        return this.take(this.number(2, "getUint16"));
      case 0xc6:
        return this.take(this.number(4, "getUint32"));
      case 0xca:
        return this.number(4, "getFloat32");
      case 0xcb:
        return this.number(8, "getFloat64");
      case 0xcc:
        return this.number(1, "getUint8");
      case 0xcd:
        return this.number(2, "getUint16");
      case 0xce:
        return this.number(4, "getUint32");
      case 0xcf:
        return Number(this.number(8, "getBigUint64"));
      case 0xd0:
        return this.number(1, "getInt8");
      case 0xd1:
        return this.number(2, "getInt16");
      case 0xd2:
        return this.number(4, "getInt32");
      case 0xd3:
        return Number(this.number(8, "getBigInt64"));
      case 0xd9:
        return this.text(this.number(1, "getUint8"));
      case 0xda:
        return this.text(this.number(2, "getUint16"));
      case 0xdb:
        return this.text(this.number(4, "getUint32"));
      case 0xdc:
        return this.list(this.number(2, "getUint16"), depth);
      case 0xdd:
        return this.list(this.number(4, "getUint32"), depth);
      case 0xde:
        return this.map(this.number(2, "getUint16"), depth);
      case 0xdf:
        return this.map(this.number(4, "getUint32"), depth);
      default:
        throw new Error(`msgpack: ${code.toString(16)} is nothing that a message holds`);
    }
  }

  number(size, method) {
    const value = this.view[method](this.at); // throws past the end
    this.at += size;
    return value;
  }

  take(size) {
    if (this.at + size > this.bytes.length) throw new Error("msgpack: it ends too early");
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }

  text(size) {
    return TEXT.decode(this.take(size));
  }

  list(size, depth) {
    this.check(size);
    return Array.from({ length: size }, () => this.value(depth + 1));
  }

  map(size, depth) {
    this.check(size);
    const found = Object.create(null);
    for (let each = 0; each < size; each += 1) found[String(this.value(depth + 1))] = this.value(depth + 1);
    return found;
  }

  check(size) {
    if (size > this.bytes.length - this.at) throw new Error("msgpack: it ends too early");
  }
}
