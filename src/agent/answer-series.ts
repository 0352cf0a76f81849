/** What tells the series of one label set apart: how the exchange was answered. */
export interface Answered {
  /** HTTP status, or gRPC's where the family counts that; undefined if there was no answer. */
  readonly status: number | undefined;
  readonly failure: boolean;
  /** Undefined where the exchange was no gRPC. */
  readonly grpcStatus: number | undefined;
  /** Value of the label `error`; empty if there was none. */
  readonly error: string;
}

/**
 * Series by answer, made when an answer is first seen. Nearly every answer is as the one before it, and then costs neither a
 * key nor a look-up.
 */
export class AnswerSeries<Found> {
  readonly #make: (answered: Answered) => Found;
  readonly #known = new Map<string, Found>();
  #last: { readonly answered: Answered; readonly found: Found } | undefined;

  constructor(make: (answered: Answered) => Found) {
    this.#make = make;
  }

  of(status: number | undefined, failure: boolean, grpcStatus: number | undefined, error: string): Found {
    const last = this.#last;
    if (last !== undefined) {
      const { answered } = last;
      if (
        answered.status === status &&
        answered.failure === failure &&
        answered.grpcStatus === grpcStatus &&
        answered.error === error
      )
        return last.found;
    }
    return this.#look({ status, failure, grpcStatus, error });
  }

  #look(answered: Answered): Found {
    const key = `${answered.status} ${answered.failure} ${answered.grpcStatus} ${answered.error}`;
    let found = this.#known.get(key);
    if (found === undefined) {
      found = this.#make(answered);
      this.#known.set(key, found);
    }
    this.#last = { answered, found };
    return found;
  }
}

/** As label values are written: empty for what there was not. */
export function labelOf(status: number | undefined): string {
  return status === undefined ? "" : String(status);
}
