// Reading and writing the safetensors format: a length, a JSON header, the bytes of the arrays.

const ARRAYS = { F32: Float32Array, U8: Uint8Array, I64: BigInt64Array };

export function read(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const arrays = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [start, stop] = entry.data_offsets;
    const data = new ARRAYS[entry.dtype](buffer.slice(8 + length + start, 8 + length + stop));
    arrays[name] = { shape: entry.shape, data: entry.dtype === "I64" ? Array.from(data, Number) : data };
  }
  return { arrays, about: JSON.parse(header.__metadata__?.about ?? "{}") };
}

export function write(name, { shape, data }, about) {
  const header = { __metadata__: { about: JSON.stringify(about) } };
  header[name] = { dtype: "F32", shape, data_offsets: [0, data.byteLength] };
  const bytes = new TextEncoder().encode(JSON.stringify(header));
  const padding = (8 - (bytes.length % 8)) % 8;
  const head = new Uint8Array(8 + bytes.length + padding).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(bytes.length + padding), true);
  head.set(bytes, 8);
  return new Blob([head, data], { type: "application/octet-stream" });
}
