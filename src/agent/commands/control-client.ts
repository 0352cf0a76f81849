import { type IncomingMessage, request } from "node:http";
import { CommandError, EXIT } from "../exit.ts";

export const DEFAULT_SOCKET = "/run/mesh-agent/control.sock";

/** Asks the running agent. @throws CommandError (69, 77) if it cannot be asked. */
export async function ask<T>(socketPath: string, method: "GET" | "POST", path: string): Promise<T> {
  const response = await open(socketPath, method, path);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const body = JSON.parse(Buffer.concat(chunks).toString()) as T & { error?: string };
  if (response.statusCode !== 200)
    throw new CommandError(EXIT.failure, body.error ?? `the agent answered ${response.statusCode}`);
  return body;
}

/** One JSON value per line, as the agent produces them; ends when the agent or the caller does. */
export async function* follow<T>(socketPath: string, path: string): AsyncGenerator<T> {
  const response = await open(socketPath, "GET", path);
  let rest = "";
  for await (const chunk of response) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield JSON.parse(line) as T;
  }
}

function open(socketPath: string, method: string, path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const question = request({ socketPath, method, path }, resolve);
    question.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EACCES")
        return reject(
          new CommandError(
            EXIT.notPermitted,
            `${socketPath} may not be opened`,
            "use sudo, or join the group mesh-agent",
          ),
        );
      reject(new CommandError(EXIT.unreachable, "the agent is not running", "systemctl start mesh-agent"));
    });
    question.end();
  });
}
