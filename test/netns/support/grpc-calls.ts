/**
 * Calls the sample gRPC server at HOST:PORT with MESSAGE, as a program that knows of no mesh: once unary, then as a
 * stream of both sides in which each message waits for the echo of the one before, then a call that is to fail. Prints
 * what came back as JSON.
 */
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { ECHO } from "../../../src/lab/apps/grpc-echo.ts";

const STREAMED = 20;
const [target = "", message = ""] = process.argv.slice(2);
const client = new Client(target, credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 10_000 });

function unary(method: typeof ECHO.Say, text: string): Promise<{ text: string; client: string; code: number }> {
  return new Promise((resolve) => {
    let identity = "";
    let answer = "";
    const call = client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      Buffer.from(text),
      deadline(),
      (_error: ServiceError | null, response?: Buffer) => {
        answer = response?.toString() ?? "";
      },
    );
    call.on("status", (status) => {
      identity = String(status.metadata.get("client")[0] ?? "");
      setImmediate(() => resolve({ text: answer, client: identity, code: status.code }));
    });
  });
}

function chat(text: string): Promise<{ echoed: string[]; code: number }> {
  return new Promise((resolve) => {
    const { path, requestSerialize, responseDeserialize } = ECHO.Chat;
    const call = client.makeBidiStreamRequest<Buffer, Buffer>(path, requestSerialize, responseDeserialize, deadline());
    const echoed: string[] = [];
    call.on("error", () => {});
    call.on("status", ({ code }) => resolve({ echoed, code }));
    const say = (): unknown =>
      echoed.length < STREAMED ? call.write(Buffer.from(`${text} ${echoed.length}`)) : call.end();
    call.on("data", (data: Buffer) => {
      echoed.push(data.toString());
      say();
    });
    say();
  });
}

const said = await unary(ECHO.Say, message);
const chatted = await chat(message);
const failed = await unary(ECHO.Fail, message);
client.close();
process.stdout.write(`${JSON.stringify({ said, chatted, failed })}\n`);
