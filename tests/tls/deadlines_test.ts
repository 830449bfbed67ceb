/** Clients that are slow, silent or never finish. */
import assert from "node:assert/strict";
import { alice, get, secure, sleep, tcp, tls, until, whoAmI, withFront } from "./front_harness.ts";
import type { FrontHandler } from "../../src/tls/front.ts";

const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const SHORT = 150;
const LONG = 60_000;
const patient = { handshakeTimeout: LONG, requestTimeout: LONG, idleTimeout: LONG };

const readBody: FrontHandler = async (request, connection) => {
  const text = await request.text();
  connection.requestComplete();
  return new Response(`read ${text.length}`);
};

Deno.test("a client that never begins or finishes the handshake is disconnected, others are not delayed", () =>
  withFront({ ...patient, handshakeTimeout: SHORT }, async (front, port) => {
    const silent = await tcp(port);
    const half = await tcp(port);
    half.socket.write(new Uint8Array([0x16, 0x03, 0x01, 0x02, 0x00]));
    assert.equal(await get(port, alice), "a11ce");
    await Promise.all([silent.whenClosed, half.whenClosed]);
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("headers that never end", () =>
  withFront({ ...patient, requestTimeout: SHORT }, async (front, port) => {
    const wire = await secure(port, alice);
    wire.send("GET / HTTP/1.1\r\nHo");
    await wire.whenClosed;
    assert.equal(wire.text, "");
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("headers that never end, after a request that did", () =>
  withFront({ ...patient, requestTimeout: SHORT }, async (_front, port) => {
    const wire = await secure(port, alice);
    wire.send(GET);
    await wire.expect(/a11ce/);
    await sleep(3 * SHORT);
    assert.equal(wire.closed, false, "idle is not slow");
    wire.send("GET / HT");
    await wire.whenClosed;
  }));

Deno.test("headers dribbled byte by byte do not extend the deadline", () =>
  withFront({ ...patient, requestTimeout: SHORT }, async (_front, port) => {
    const wire = await secure(port, alice);
    wire.send("GET / HTTP/1.1\r\nX: ");
    const end = performance.now() + 20 * SHORT;
    while (!wire.closed && performance.now() < end) {
      wire.send("a");
      await sleep(10);
    }
    assert.ok(wire.closed, "the deadline is not extended");
  }));

Deno.test("a pipelined request that never ends, begun while the first is answered", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler: FrontHandler = async () => {
    await promise;
    return new Response("late");
  };
  await withFront({ ...patient, requestTimeout: SHORT, handler }, async (_front, port) => {
    const wire = await secure(port, alice);
    wire.send(GET);
    await sleep(20);
    wire.send("GET / HT");
    await sleep(3 * SHORT);
    assert.equal(wire.closed, false, "the first is still under way");
    resolve();
    await wire.expect(/late/);
    await wire.whenClosed;
  });
});

Deno.test("a body that never ends", () =>
  withFront({ ...patient, requestTimeout: SHORT, handler: readBody }, async (front, port) => {
    for (
      const head of ["Content-Length: 10\r\n\r\n01234", "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"]
    ) {
      const wire = await secure(port, alice);
      wire.send(`POST / HTTP/1.1\r\nHost: localhost\r\n${head}`);
      await wire.whenClosed;
      assert.equal(wire.text, "");
    }
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("handshake, headers and body have a time of their own", () => {
  const timeout = 1000;
  return withFront(
    { ...patient, handshakeTimeout: timeout, requestTimeout: timeout, handler: readBody },
    async (_front, port) => {
      const wire = await secure(port, alice);
      wire.send("POST / HTTP/1.1\r\n");
      await sleep(timeout * 0.7);
      wire.send("Host: localhost\r\nContent-Length: 2\r\n\r\n1");
      await sleep(timeout * 0.7);
      wire.send("2");
      await wire.expect(/read 2/);
      wire.socket.destroy();
    },
  );
});

Deno.test("a slow handler is not cut off", () => {
  const handler: FrontHandler = async (request, connection) => {
    await request.text();
    connection.requestComplete();
    await sleep(4 * SHORT);
    return new Response("at last");
  };
  return withFront(
    { handshakeTimeout: SHORT, requestTimeout: SHORT, idleTimeout: SHORT, handler },
    async (_front, port) => {
      const wire = await secure(port, alice);
      wire.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n12");
      await wire.expect(/at last/);
      await wire.whenClosed;
    },
  );
});

Deno.test("an idle connection is closed after its own time", () =>
  withFront({ ...patient, idleTimeout: SHORT, handler: whoAmI }, async (front, port) => {
    const never = await secure(port, alice);
    const once = await secure(port, alice);
    once.send(GET);
    await once.expect(/a11ce/);
    await Promise.all([never.whenClosed, once.whenClosed]);
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("a client that does not read its answer", () =>
  withFront(
    { ...patient, requestTimeout: SHORT, handler: () => new Response(new Uint8Array(64 * 2 ** 20)) },
    async (front, port) => {
      const wire = tls(port, alice);
      wire.socket.once("secureConnect", () => {
        wire.send(GET);
        wire.stopReading();
      });
      await until(() => front.mappedPorts === 1, "the connection is there");
      await until(() => front.connections === 0, "it was cut off");
      wire.socket.destroy();
    },
  ));

Deno.test("a certificate that expires while its connection is open", async () => {
  let now = Date.now();
  await withFront({ ...patient, idleTimeout: SHORT * 10, date: () => now }, async (_front, port) => {
    const wire = await secure(port, alice);
    wire.send(GET);
    await wire.expect(/a11ce/);
    const before = performance.now();
    now += 2 * 86_400_000;
    await wire.whenClosed;
    assert.ok(performance.now() - before < SHORT * 9, "not only by the idle time");
  });
});

Deno.test("a request that is sent as its idle connection is closed is answered whole, or gets nothing", () => {
  let handled = 0;
  const handler: FrontHandler = async (request) => {
    handled++;
    return new Response(`got ${await request.text()}`);
  };
  return withFront({ ...patient, idleTimeout: SHORT, handler }, async (front, port) => {
    let answered = 0;
    // Around the moment of closing, from well before it to well after it.
    for (let pause = SHORT / 2; pause < SHORT * 2; pause += SHORT / 20) {
      const wire = await secure(port, alice);
      await sleep(pause);
      if (!wire.closed) wire.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n12");
      await wire.whenClosed;
      if (wire.text === "") continue;
      assert.match(wire.text, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\ngot 12$/);
      answered++;
    }
    await until(() => front.connections === 0, "nothing is left");
    assert.ok(answered > 0);
    assert.equal(handled, answered, "a request was handled without an answer");
  });
});
