import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { haveSameKeys, keyIdsIn, parseAnswer } from "./http_answer.ts";

const OK = "HTTP/1.1 200 OK\r\n";

Deno.test("an answer is complete with its last byte, however its length is told", () => {
  for (
    const [head, wire] of [
      ["Content-Length: 5\r\n", "hello"],
      ["content-length:5\r\nConnection: keep-alive\r\n", "hello"],
      ["Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n"],
      ["transfer-encoding:chunked\r\n", "5\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n"],
    ] as const
  ) {
    for (const before of ["", "HTTP/1.1 100 Continue\r\n\r\n"]) {
      const bytes = Buffer.from(`${before}${OK}${head}\r\n${wire}`);
      for (let length = 0; length < bytes.length; length++) {
        assert.equal(parseAnswer(bytes.subarray(0, length)), undefined, `${head}: ${length} bytes`);
      }
      const answer = parseAnswer(Buffer.concat([bytes, Buffer.from(OK)]))!;
      assert.equal(answer.status, 200);
      assert.equal(answer.body.toString(), "hello");
      assert.equal(answer.length, bytes.length);
      assert.equal(answer.closes, false);
    }
  }
});

Deno.test("an answer without a length ends with the connection", () => {
  const bytes = Buffer.from("HTTP/1.0 503 Sorry\r\n\r\nhello");
  assert.equal(parseAnswer(bytes), undefined);
  const answer = parseAnswer(bytes, true)!;
  assert.deepEqual([answer.status, answer.body.toString(), answer.closes], [503, "hello", true]);
  const closing = parseAnswer(Buffer.from(`${OK}Connection: close\r\nContent-Length: 0\r\n\r\n`))!;
  assert.equal(closing.closes, true);
  assert.equal(parseAnswer(Buffer.from("HTTP/1.1 204 No Content\r\n\r\n"))!.body.length, 0);
});

Deno.test("key_IDs are found with and without white space", () => {
  const compact = Buffer.from('{"keys":[{"key_ID":"a","key":"AA=="},{"key_ID":"b","key":"BB=="}]}');
  const spaced = Buffer.from(
    '{"keys": [{"key": "BB==", "key_ID" : "b", "key_ID_extension": {}}, {"key": "AA==", "key_ID": "a"}]}',
  );
  assert.deepEqual(keyIdsIn(compact), ["a", "b"]);
  assert.deepEqual(keyIdsIn(spaced), ["b", "a"]);
  assert.deepEqual(keyIdsIn(Buffer.from('{"key_ID')), []);
  assert.ok(haveSameKeys(compact, spaced));
  assert.ok(!haveSameKeys(compact, Buffer.from(compact.toString().replace("AA==", "CC=="))));
  assert.ok(!haveSameKeys(compact, Buffer.from('{"keys":[{"key_ID":"a","key":"AA=="}]}')));
});
