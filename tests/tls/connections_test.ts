/** What connections may do, and that they harm only themselves. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { FrontHandler } from "../../src/tls/front.ts";
import { PipePorts } from "../../src/tls/ports.ts";
import {
  alice,
  ask,
  bob,
  get,
  secure,
  sleep,
  tcp,
  tls,
  until,
  whenAtRest,
  whoAmI,
  Wire,
  withFront,
} from "./front_harness.ts";

const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const MEGABYTE = 2 ** 20;

const echo: FrontHandler = async (request, connection) => {
  const text = await request.text();
  connection.requestComplete();
  return new Response(`${connection.identity.serial.toString(16)} ${text}`);
};

Deno.test("many connections of two clients, every request sees its own", () =>
  withFront({
    handler: async (request, connection) => {
      await sleep(Math.random() * 5);
      const text = await request.text();
      connection.requestComplete();
      return new Response(`[${connection.identity.serial.toString(16)} ${text}]`);
    },
  }, async (front, port) => {
    let answers = 0;
    await Promise.all(Array.from({ length: 48 }, async (_, i) => {
      const [who, serial] = i % 2 ? [alice, "a11ce"] : [bob, "b0b"];
      for (let round = 0; round < 4; round++) {
        const wire = await secure(port, who!);
        for (let j = 0; j < 5; j++) {
          const body = `${i}.${round}.${j}`;
          wire.text = "";
          wire.send(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
          assert.match(await wire.expect(/\]/), new RegExp(`\\[${serial} ${body}\\]`));
          answers++;
        }
        if (round % 2) wire.reset();
        else wire.socket.end();
      }
    }));
    assert.equal(answers, 48 * 4 * 5);
    await until(() => front.connections === 0 && front.mappedPorts === 0, "nothing is left");
  }));

Deno.test("answers of many connections at once, each of its own content, arrive whole and with the right client", () => {
  /** Content that is another one for each connection, request and place. */
  const content = (connection: number, request: number) =>
    Uint32Array.from({ length: 40_000 + 997 * connection }, (_, i) => connection << 24 | request << 20 | i);
  return withFront({
    handler: (request) => {
      const [connection, number] = new URL(request.url).pathname.slice(1).split("/").map(Number);
      return new Response(new Uint8Array(content(connection!, number!).buffer));
    },
  }, async (_front, port) => {
    await Promise.all(Array.from({ length: 40 }, async (_, connection) => {
      const wire = await secure(port, connection % 2 ? alice : bob);
      wire.socket.removeAllListeners("data");
      for (let number = 0; number < 4; number++) {
        const expected = new Uint8Array(content(connection, number).buffer);
        const received: Uint8Array[] = [];
        const { promise, resolve } = Promise.withResolvers<void>();
        let size = 0;
        let body = -1;
        const take = (chunk: Uint8Array) => {
          received.push(chunk);
          size += chunk.length;
          if (body < 0) body = new TextDecoder("latin1").decode(chunk).indexOf("\r\n\r\n") + 4;
          if (size >= body + expected.length) resolve();
        };
        wire.socket.on("data", take);
        wire.send(`GET /${connection}/${number} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
        await promise;
        wire.socket.off("data", take);
        assert.ok(Buffer.concat(received).subarray(body).equals(expected), `${connection}/${number}`);
      }
      wire.socket.destroy();
    }));
  });
});

Deno.test("the inner port answers no one else, whatever port or address they come from", async () => {
  let handled = 0;
  await withFront({
    handler: (_request, connection) => {
      handled++;
      return new Response(connection.identity.subject);
    },
  }, async (front, port) => {
    const wire = await secure(port, alice);
    wire.send(GET);
    await wire.expect(/alice/);
    assert.equal(handled, 1);
    const stranger = await tcp(front.innerPort);
    stranger.send(GET);
    assert.match(await stranger.expect(/\}/), /^HTTP\/1\.1 403 /);
    stranger.socket.destroy();
    // The pipe's port number on another address of the loopback.
    if (Deno.build.os === "linux") {
      const found = new TextDecoder().decode(Deno.readFileSync("/proc/self/net/tcp")).split("\n")
        .map((line) => line.trim().split(/\s+/))
        .find((fields) =>
          fields[3] === "01" &&
          parseInt(fields[2]?.split(":")[1] ?? "", 16) === front.innerPort
        );
      const localPort = parseInt(found![1]!.split(":")[1]!, 16);
      const twin = await tcp(front.innerPort, "127.0.0.1", { localAddress: "127.0.0.2", localPort });
      twin.send(GET);
      assert.match(await twin.expect(/\}/), /^HTTP\/1\.1 403 /);
      twin.socket.destroy();
    }
    assert.equal(handled, 1);
    wire.socket.destroy();
  });
});

Deno.test("a released port is not reused at once", () => {
  const ports = new PipePorts<string>();
  const from = (hostname: string, port: number) => ports.find({ transport: "tcp", hostname, port });
  assert.ok(ports.enter(1000, "alice"));
  assert.equal(from("127.0.0.1", 1000), "alice");
  assert.equal(from("127.0.0.2", 1000), undefined);
  assert.equal(from("::1", 1000), undefined);
  assert.equal(ports.enter(1000, "bob"), false);
  ports.leave(1000, "alice");
  assert.equal(from("127.0.0.1", 1000), undefined);
  for (let i = 0; i < 10; i++) ports.sweep();
  assert.equal(ports.enter(1000, "bob"), false, "its socket is open");
  ports.closed(1000);
  ports.sweep();
  assert.equal(ports.enter(1000, "bob"), false);
  ports.sweep();
  ports.sweep();
  assert.ok(ports.enter(1000, "bob"));
  // Alice's client went only now.
  ports.leave(1000, "alice");
  assert.equal(from("127.0.0.1", 1000), "bob");
  assert.equal(ports.size, 1);
});

Deno.test("a request that outlives its connection keeps its identity", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const seen: string[] = [];
  await withFront({
    handler: async (_request, connection) => {
      seen.push("entered");
      await promise;
      seen.push(connection.identity.serial.toString(16));
      return new Response();
    },
  }, async (_front, port) => {
    const wire = await secure(port, alice);
    wire.send(GET);
    await until(() => seen.length === 1, "the handler was entered");
    wire.reset();
    await sleep(20);
    resolve();
    await until(() => seen.length === 2, "the handler is through");
    assert.equal(seen[1], "a11ce");
  });
});

Deno.test("clients that hang up at any moment leave no connection behind", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler: FrontHandler = async (request, connection) => {
    if (request.method === "POST") {
      await request.text();
      connection.requestComplete();
    }
    if (request.url.endsWith("/wait")) await promise;
    return new Response(request.url.endsWith("/big") ? new Uint8Array(8 * MEGABYTE) : "small");
  };
  const moments: Record<string, (port: number) => Promise<Wire>> = {
    "before accept": (port) => tcp(port),
    "in the handshake": async (port) => {
      const wire = await tcp(port);
      wire.socket.write(new Uint8Array([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
      await sleep(2);
      return wire;
    },
    "after the ClientHello": async (port) => {
      const wire = tls(port, alice);
      await sleep(Math.random() * 4);
      return wire;
    },
    "after the handshake": (port) => secure(port, alice),
    "in the headers": async (port) => {
      const wire = await secure(port, alice);
      wire.send("GET / HTTP/1.1\r\nHost:");
      await sleep(2);
      return wire;
    },
    "in the body": async (port) => {
      const wire = await secure(port, alice);
      wire.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc");
      await sleep(2);
      return wire;
    },
    "in the handler": async (port) => {
      const wire = await secure(port, alice);
      wire.send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
      await sleep(2);
      return wire;
    },
    "in the answer": async (port) => {
      const wire = await secure(port, alice);
      wire.send("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
      await wire.expect(/200 OK/);
      return wire;
    },
    "between requests": async (port) => {
      const wire = await secure(port, alice);
      wire.send(GET);
      await wire.expect(/small/);
      return wire;
    },
  };
  await withFront({ handler, requestTimeout: 60_000, lingerTimeout: 100 }, async (front, port) => {
    const bystander = await secure(port, bob);
    for (let round = 0; round < 5; round++) {
      for (const reset of [true, false]) {
        await Promise.all(
          Object.values(moments).map(async (moment) => {
            const wire = await moment(port);
            if (reset) wire.reset();
            else wire.socket.destroy();
          }),
        );
      }
      bystander.text = "";
      bystander.send(GET);
      await bystander.expect(/small/);
    }
    resolve();
    await until(() => front.connections === 1 && front.mappedPorts === 1, "only the bystander is left");
    bystander.socket.destroy();
    await until(() => front.connections === 0 && front.mappedPorts === 0, "nothing is left");
  });
});

Deno.test("half-close: an answer comes after the client has ended its side", async () => {
  const handler: FrontHandler = async (request, connection) => {
    await sleep(100);
    return await echo(request, connection);
  };
  await withFront({ handler }, async (front, port) => {
    const wire = await secure(port, alice);
    wire.socket.end("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello");
    await wire.expect(/a11ce hello/);
    await wire.whenClosed;
    const two = await secure(port, alice);
    two.socket.end((GET + GET).replaceAll("GET / ", "GET /x "));
    await until(() => two.closed, "the server has closed");
    assert.equal(two.text.match(/200 OK/g)?.length, 2, "pipelined, too");
    const idle = await secure(port, alice);
    idle.socket.end();
    await idle.whenClosed;
    await until(() => front.connections === 0, "nothing is left");
  });
});

Deno.test("back-pressure: large bodies both ways", () =>
  withFront({
    handler: async (request, connection) => {
      let size = 0;
      for await (const chunk of request.body!) {
        size += chunk.length;
        if (size % 7 === 0) await sleep(1);
      }
      connection.requestComplete();
      return new Response(new Uint8Array(size).fill(0x61));
    },
  }, async (_front, port) => {
    const size = 24 * MEGABYTE;
    const wire = await secure(port, alice);
    let received = 0;
    wire.socket.removeAllListeners("data");
    wire.socket.on("data", (chunk) => received += chunk.length);
    wire.send(`POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ${size}\r\n\r\n`);
    wire.socket.write(new Uint8Array(size));
    await wire.whenClosed;
    assert.ok(received > size && received < size + 1000, `${received} of ${size}`);
  }));

Deno.test("a client that does not read: the answer does not pile up in the front", async () => {
  let produced = 0;
  const handler: FrontHandler = () =>
    new Response(
      new ReadableStream({
        pull(controller) {
          produced += MEGABYTE;
          if (produced > 64 * MEGABYTE) controller.close();
          else controller.enqueue(new Uint8Array(MEGABYTE));
        },
      }),
    );
  await withFront({ handler }, async (_front, port) => {
    const wire = await secure(port, alice);
    wire.send(GET);
    wire.stopReading();
    const held = await whenAtRest(() => produced, "the answer has begun");
    assert.ok(held < 40 * MEGABYTE, `${held} bytes are somewhere`);
    wire.socket.destroy();
  });
});

Deno.test("a fast client and a slow handler: the body does not pile up in the front", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  await withFront({
    handler: async (request, connection) => {
      await promise;
      await request.arrayBuffer();
      connection.requestComplete();
      return new Response("done");
    },
  }, async (_front, port) => {
    const size = 64 * MEGABYTE;
    const wire = await secure(port, alice);
    wire.send(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${size}\r\n\r\n`);
    let sent = 0;
    const chunk = new Uint8Array(MEGABYTE / 4);
    const pump = () => {
      while (sent < size) {
        sent += chunk.length;
        if (!wire.socket.write(chunk)) return void wire.socket.once("drain", pump);
      }
    };
    pump();
    const held = await whenAtRest(() => sent, "the body has begun");
    assert.ok(held < size / 2, `${held} bytes went nowhere`);
    resolve();
    await wire.expect(/done/);
    wire.socket.destroy();
  });
});

Deno.test("an answer before the body is read reaches a client that goes on sending", () =>
  withFront({
    handler: () => Response.json({ message: "too large" }, { status: 413 }),
  }, async (front, port) => {
    for (let round = 0; round < 5; round++) {
      const wire = await secure(port, alice);
      wire.send(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${64 * MEGABYTE}\r\n\r\n`);
      const chunk = new Uint8Array(MEGABYTE / 8);
      for (let i = 0; i < 40 && !wire.closed; i++) {
        wire.socket.write(chunk);
        await sleep(1);
      }
      const text = await wire.expect(/too large/);
      assert.match(text, /^HTTP\/1\.1 413 .*connection: close/is);
      await wire.whenClosed;
    }
    const whole = await secure(port, alice);
    whole.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok");
    await whole.expect(/connection: close.*too large/is);
    await whole.whenClosed;
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("of a body that is refused little more is read, whatever the method, and the connection is closed", () =>
  withFront({
    lingerTimeout: 2000,
    handler: () => Response.json({ message: "too large" }, { status: 413 }),
  }, async (front, port) => {
    const size = 200 * MEGABYTE;
    for (
      const [method, length] of [
        ["POST", `Content-Length: ${size}`],
        ["GET", `Content-Length: ${size}`],
        ["HEAD", `Content-Length: ${size}`],
        ["GET", "Transfer-Encoding: chunked"],
      ]
    ) {
      const wire = await secure(port, alice);
      wire.send(`${method} / HTTP/1.1\r\nHost: localhost\r\n${length}\r\n\r\n`);
      if (!length!.startsWith("Content-Length")) wire.send(`${size.toString(16)}\r\n`);
      const chunk = new Uint8Array(MEGABYTE / 4);
      let sent = 0;
      const pump = () => {
        while (sent < size && !wire.closed) {
          sent += chunk.length;
          if (!wire.socket.write(chunk)) return void wire.socket.once("drain", pump);
        }
      };
      pump();
      await wire.expect(method === "HEAD" ? /^HTTP\/1\.1 413 / : /^HTTP\/1\.1 413 .*too large/s);
      await wire.whenClosed;
      // What is on the way in the buffers of both ends comes on top of the megabyte.
      assert.ok(sent < 24 * MEGABYTE, `${method}, ${length}: ${sent / MEGABYTE} MiB were sent`);
    }
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("Expect: 100-continue, chunked bodies, HTTP/1.0, pipelining, malformed HTTP", () =>
  withFront({ handler: echo }, async (front, port) => {
    const expecting = await secure(port, alice);
    expecting.send("POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    await expecting.expect(/^HTTP\/1\.1 100 Continue/);
    expecting.send("ok");
    await expecting.expect(/a11ce ok/);
    expecting.text = "";
    expecting.send(
      "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
    );
    await expecting.expect(/a11ce abc/);
    expecting.text = "";
    expecting.send(GET.repeat(3));
    await until(() => expecting.text.match(/200 OK/g)?.length === 3, "three answers");
    expecting.socket.destroy();
    const old = await secure(port, alice);
    old.send("GET / HTTP/1.0\r\n\r\n");
    await old.expect(/^HTTP\/1\.0 200 /);
    await old.whenClosed;
    const malformed = await secure(port, alice);
    malformed.send("this is not HTTP\r\n\r\n");
    await malformed.expect(/^HTTP\/1\.1 400 /);
    await malformed.whenClosed;
    const long = await secure(port, alice);
    long.send(`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(MEGABYTE)}\r\n\r\n`);
    await long.expect(/^HTTP\/1\.1 4\d\d /);
    await long.whenClosed;
    const http2 = await secure(port, alice);
    http2.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await http2.whenClosed;
    assert.equal(http2.text, "");
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("ALPN: http/1.1 and http/1.0; a client that offers only HTTP/2 is refused with a message that says what to do", () => {
  const refused: string[] = [];
  return withFront({ onRefused: ({ message }) => refused.push(message) }, async (_front, port) => {
    for (
      const [offered, chosen] of [
        [["h2", "http/1.1"], "http/1.1"],
        [["http/1.0"], "http/1.0"],
        [["http/1.0", "http/1.1"], "http/1.1"],
      ] as const
    ) {
      const wire = await secure(port, alice, { ALPNProtocols: [...offered] });
      assert.equal((wire.socket as { alpnProtocol?: string }).alpnProtocol, chosen);
      wire.send(GET);
      await wire.expect(/^HTTP\/1\.1 200 /);
      wire.socket.destroy();
    }
    assert.equal(await get(port, alice, { ALPNProtocols: ["h2"] }), undefined);
    await until(() => refused.length === 1, "the refusal is reported");
    assert.match(refused[0]!, /offers only protocols other than HTTP\/1\.1/);
  });
});

Deno.test("the answer of a handler that fails contains no details", () =>
  withFront({
    handler: (request) => {
      if (request.url.endsWith("/now")) throw new Error("secret");
      return Promise.reject(new Error("secret"));
    },
  }, async (_front, port) => {
    for (const path of ["/now", "/later"]) {
      const wire = await secure(port, alice);
      wire.send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      await wire.whenClosed;
      assert.match(
        wire.text,
        /^HTTP\/1\.1 500 .*content-type: application\/json.*\{"message":"internal error"\}\n$/is,
      );
      assert.doesNotMatch(wire.text, /secret/);
    }
  }));

Deno.test("silent connections in any number do not keep others from connecting: the oldest handshake is closed", () =>
  withFront({ maxHandshakes: 3, maxConnections: 2 }, async (front, port) => {
    const known = await secure(port, bob);
    known.send(GET);
    await known.expect(/b0b/);
    const silent = [];
    for (let i = 0; i < 3; i++) silent.push(await tcp(port));
    await until(() => front.handshakes === 3, "all are in the handshake");
    assert.equal(await get(port, alice), "a11ce");
    await silent[0]!.whenClosed;
    assert.deepEqual(silent.map((wire) => wire.closed), [true, false, false], "only the oldest");
    for (let i = 0; i < 10; i++) silent.push(await tcp(port));
    assert.equal(await get(port, alice), "a11ce");
    assert.equal(front.handshakes <= 3, true);
    known.text = "";
    known.send(GET);
    await known.expect(/b0b/);
    for (const wire of [known, ...silent]) wire.reset();
    await until(() => front.connections === 0 && front.mappedPorts === 0, "nothing is left");
  }));

Deno.test("over the limit of connections the longest idle one is closed, none with a request in progress", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler: FrontHandler = async (request, connection) => {
    if (request.url.endsWith("/wait")) await promise;
    return await whoAmI(request, connection);
  };
  await withFront({ maxConnections: 3, handler }, async (front, port) => {
    const open = async (path = "/") => {
      const wire = await secure(port, alice);
      wire.send(GET.replace("/", path));
      if (path === "/") await wire.expect(/a11ce/);
      return wire;
    };
    const busy = await open("/wait");
    await until(() => front.mappedPorts === 1, "it is there");
    const [first, second] = [await open(), await open()];
    // The one that was opened first is now the one that was used last.
    first.text = "";
    first.send(GET);
    await first.expect(/a11ce/);
    const third = await open();
    await second.whenClosed;
    assert.deepEqual([busy.closed, first.closed, third.closed], [false, false, false]);
    await until(() => front.connections === 3, "the place is free");

    first.text = third.text = "";
    first.send(GET.replace("/", "/wait"));
    third.send(GET.replace("/", "/wait"));
    await sleep(50);
    assert.equal(await get(port, bob), undefined, "with a request under way on each, one more is refused");
    resolve();
    await Promise.all([busy, first, third].map((wire) => wire.expect(/a11ce/)));
    assert.equal(await get(port, bob), "b0b");
    for (const wire of [busy, first, third]) wire.socket.destroy();
    await until(() => front.connections === 0 && front.mappedPorts === 0, "nothing is left");
  });
});

Deno.test("one certificate has at most half of the connections, so that others get in", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler: FrontHandler = async (request, connection) => {
    if (request.url.endsWith("/wait")) await promise;
    return await whoAmI(request, connection);
  };
  await withFront({ maxConnections: 20, handler }, async (front, port) => {
    const wires = await Promise.all(Array.from({ length: 10 }, () => secure(port, alice)));
    for (const wire of wires) wire.send(GET.replace("/", "/wait"));
    await until(() => front.mappedPorts === 10, "all are there");
    await sleep(20);
    assert.deepEqual(await ask(port, alice), { status: 503, body: '{"message":"too many connections"}\n' });
    assert.equal(await get(port, bob), "b0b");
    resolve();
    await Promise.all(wires.map((wire) => wire.expect(/a11ce/)));
    assert.equal(await get(port, alice), "a11ce", "an idle one gives way");
    for (const wire of wires) wire.socket.destroy();
    await until(() => front.connections === 0, "nothing is left");
  });
});

Deno.test({
  name:
    "a flood of handshakes from one address ends no handshake of another, and keeps no other from connecting",
  // Other systems have one address for the loopback.
  ignore: Deno.build.os !== "linux",
  fn: () =>
    withFront({ maxHandshakes: 10, listen: { hostname: "0.0.0.0", port: 0 } }, async (front, port) => {
      const other = await tcp(port, "127.0.0.1", { localAddress: "127.0.0.2" });
      await until(() => front.handshakes === 1, "it is there");
      const flood = await Promise.all(Array.from({ length: 40 }, () => tcp(port)));
      await until(() => flood.filter(({ closed }) => closed).length >= 31, "the flood ends its own");
      assert.equal(other.closed, false);
      // While it goes on, clients of another address connect and are answered.
      let isFlooding = true;
      const flooding = (async () => {
        while (isFlooding) flood.push(await tcp(port));
      })();
      for (let i = 0; i < 20; i++) {
        assert.equal(await get(port, alice, { localAddress: "127.0.0.2" }), "a11ce");
      }
      isFlooding = false;
      await flooding;
      assert.equal(other.closed, false);
      for (const wire of [other, ...flood]) wire.reset();
      await until(() => front.connections === 0, "nothing is left");
    }),
});

Deno.test("close: idle connections at once, requests under way to their end", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler: FrontHandler = async (request) => {
    if (request.url.endsWith("/wait")) await promise;
    return new Response(request.url.endsWith("/wait") ? "x".repeat(4 * MEGABYTE) + "end" : "quick");
  };
  await withFront({ handler }, async (front, port) => {
    const idle = await secure(port, alice);
    idle.send(GET);
    await idle.expect(/quick/);
    const busy = await secure(port, alice);
    busy.send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const handshake = await tcp(port);
    await until(() => front.mappedPorts === 2 && front.handshakes === 1, "all are there");
    await sleep(20);
    const closing = front.close(60_000);
    await Promise.all([idle.whenClosed, handshake.whenClosed]);
    assert.equal(busy.closed, false);
    assert.equal((await tcp(port)).closed, true, "nobody new");
    resolve();
    await busy.expect(/end$/);
    await closing;
    assert.equal(front.connections, 0);
  });
});

Deno.test("close: connections that do not end in time are closed", async () => {
  await withFront({ handler: () => new Promise<Response>(() => {}) }, async (front, port) => {
    const wire = await secure(port, alice);
    wire.send(GET);
    await until(() => front.mappedPorts === 1, "it is there");
    await front.close(50);
    await wire.whenClosed;
    assert.equal(front.connections, 0);
  });
});

Deno.test("late calls of one request do not affect the next", async () => {
  const calls: (() => void)[] = [];
  const handler: FrontHandler = async (request, connection) => {
    calls.push(connection.requestComplete);
    if (request.url.endsWith("/first")) {
      connection.requestComplete();
      return whoAmI(request, connection);
    }
    calls[0]!();
    await request.text();
    return new Response("whole");
  };
  await withFront({ handler, requestTimeout: 150 }, async (_front, port) => {
    const wire = await secure(port, alice);
    wire.send("GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await wire.expect(/a11ce/);
    wire.send("POST /second HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n1");
    await wire.whenClosed;
    assert.doesNotMatch(wire.text, /whole/);
  });
});
