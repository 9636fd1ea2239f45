// Weights as they go with a page: a safetensors file in base 64.

/** The number that 16 bits are in half precision. */
function fromHalf(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
  return bits >> 15 ? -size : size;
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

/** The tensors of a safetensors file in base 64, by name: { data, shape }; and its metadata. */
function readTensors(text) {
  const bytes = bytesOf(text);
  const start = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const { __metadata__: metadata, ...entries } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(entries)) {
    const { buffer } = bytes.slice(...data_offsets.map((offset) => start + offset));
    const data =
      dtype === "F16"
        ? Float64Array.from(new Uint16Array(buffer), fromHalf)
        : Float64Array.from(new Float32Array(buffer));
    tensors[name] = { data, shape };
  }
  return { tensors, metadata };
}
