// Base64 and hexadecimal text → numbers.
"use strict";

const bytesOf = (text) => {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
};
// Copied, so that the four bytes of a number begin where the platform wants them.
const floatsOf = (text) => new Float32Array(bytesOf(text).slice().buffer);
const tableOf = (hex) => Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.substr(2 * i, 2), 16));

module.exports = { bytesOf, floatsOf, tableOf };
