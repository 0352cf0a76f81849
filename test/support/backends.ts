import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./until.ts";

/** A web server that answers everything with 200 and `x-backend`, and writes down which requests it saw. */
export interface Backend {
  readonly name: string;
  readonly port: number;
  /** `METHOD target` of each request it finished, in its own words, so far. */
  seen(): string[];
  stop(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = createTcp().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

/** Node's own parser, in its strict mode. */
export async function nodeBackend(): Promise<Backend> {
  const seen: string[] = [];
  const server = createServer((req, res) => {
    req.resume();
    req.on("end", () => {
      seen.push(`${req.method} ${req.url}`);
      res.setHeader("x-backend", "node");
      // Said also to HTTP/1.0, which Node would otherwise answer until the connection's end.
      res.setHeader("content-length", 2);
      res.end("ok");
    });
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    name: "node",
    port: (server.address() as AddressInfo).port,
    seen: () => seen,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function program(name: string, start: (folder: string, port: number) => ChildProcess): Promise<Backend> {
  const folder = mkdtempSync(join(tmpdir(), `backend-${name}-`));
  const port = await freePort();
  const child = start(folder, port);
  await until(() => answers(port), `${name} listens`);
  return {
    name,
    port,
    seen: () =>
      readFileSync(join(folder, "log"), "latin1")
        .split("\n")
        .filter((line) => line.startsWith("seen "))
        .map((line) => line.slice(5)),
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      rmSync(folder, { recursive: true });
    },
  };
}

/** Debian's nginx; the request is read to its end before it is answered. */
export function nginxBackend(): Promise<Backend> {
  return program("nginx", (folder, port) => {
    writeFileSync(join(folder, "log"), "");
    writeFileSync(
      join(folder, "nginx.conf"),
      `daemon off;
master_process off;
pid ${folder}/pid;
error_log ${folder}/error.log;
events {}
http {
  log_format seen 'seen $request_method $request_uri';
  access_log ${folder}/log seen if=$is_request;
  # What it refuses by itself: a malformed one, TRACE, more content than it takes; what was cut off.
  map $status $is_request { 400 0; 405 0; 408 0; 413 0; 499 0; default 1; }
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port};
    # What is passed on is read to its end before.
    location / { proxy_pass http://unix:${folder}/answer; }
  }
  server {
    listen unix:${folder}/answer;
    access_log off;
    location / { add_header x-backend nginx always; return 200 ok; }
  }
}
`,
    );
    return spawn("nginx", ["-p", folder, "-c", join(folder, "nginx.conf")], { stdio: "ignore" });
  });
}

/** Debian's nginx as somebody's proxy before a port: it keeps connections there and reads responses in its own way. */
export function nginxFront(behind: number): Promise<Backend> {
  return program("nginx-front", (folder, port) => {
    writeFileSync(
      join(folder, "nginx.conf"),
      `daemon off;
master_process off;
pid ${folder}/pid;
error_log ${folder}/error.log;
events {}
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  upstream behind { server 127.0.0.1:${behind}; keepalive 1; }
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 3s; }
  }
}
`,
    );
    return spawn("nginx", ["-p", folder, "-c", join(folder, "nginx.conf")], { stdio: "ignore" });
  });
}

/** Debian's HAProxy in the same place. */
export function haproxyFront(behind: number): Promise<Backend> {
  return program("haproxy-front", (folder, port) => {
    writeFileSync(
      join(folder, "haproxy.cfg"),
      `defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 1s
listen front
  bind 127.0.0.1:${port}
  http-reuse always
  server behind 127.0.0.1:${behind}
`,
    );
    return spawn("haproxy", ["-f", join(folder, "haproxy.cfg")], { stdio: "ignore" });
  });
}

/**
 * Debian's HAProxy before a Node server, which knows where a request was cut off: HAProxy alone answers such a one too, to
 * nobody, if the end arrives together with the content.
 */
export async function haproxyBackend(): Promise<Backend> {
  const behind = await nodeBackend();
  const haproxy = await program("haproxy", (folder, port) => {
    writeFileSync(
      join(folder, "haproxy.cfg"),
      `defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 1s
listen web
  bind 127.0.0.1:${port}
  http-reuse never
  http-response set-header x-backend haproxy
  server node 127.0.0.1:${behind.port}
`,
    );
    return spawn("haproxy", ["-f", join(folder, "haproxy.cfg")], { stdio: "ignore" });
  });
  return {
    ...haproxy,
    seen: behind.seen,
    async stop() {
      await haproxy.stop();
      await behind.stop();
    },
  };
}
