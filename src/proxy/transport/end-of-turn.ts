/** Gathers during a turn of the event loop what it hands over at its end. */
export interface Gathering {
  flush(): void;
}

/** Those that have something. One check-phase callback serves all of them. */
const waiting: Gathering[] = [];
let scheduled = false;

function flushAll(): void {
  scheduled = false;
  // A flush may give others something (a resumed peer): they are appended and served in the same pass.
  for (let i = 0; i < waiting.length; i++) waiting[i]?.flush();
  while (waiting.length > 0) waiting.pop();
}

/** Has `gathering` flushed once this turn's reads are through. Whoever asks twice is flushed twice. */
export function flushAtEndOfTurn(gathering: Gathering): void {
  waiting.push(gathering);
  if (scheduled) return;
  scheduled = true;
  setImmediate(flushAll);
}
