/** The system's name of what ended a connection, such as `ECONNRESET`; empty for anything that is not the system's. */
export function errnoOf(error: Error): string {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return syscall === undefined ? "" : (code ?? "");
}
