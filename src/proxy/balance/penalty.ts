/**
 * What a response counts as in {@link PenaltyPeakEwma}, besides its time.
 *
 * @param grpcStatus - `grpc-status` in the *headers* of a 200 with a gRPC content type; undefined otherwise.
 * @param hintMs - From `retry-after` or `grpc-retry-pushback-ms`; undefined without one.
 * @returns Milliseconds; undefined: no failure, the measured time counts.
 * @see outbound.md §5.3
 */
export function penaltyOf(
  config: { readonly penaltyMs: number; readonly maxRetryAfterMs: number },
  status: number,
  grpcStatus: number | undefined,
  hintMs: number | undefined,
): number | undefined {
  if (status === 429 || status === 503 || grpcStatus === 8 || grpcStatus === 14) {
    return hintMs === undefined
      ? config.penaltyMs
      : Math.max(config.penaltyMs, Math.min(hintMs, config.maxRetryAfterMs));
  }
  if (status >= 500 && status <= 599) return config.penaltyMs;
  if (grpcStatus === 2 || grpcStatus === 4 || grpcStatus === 13 || grpcStatus === 15) return config.penaltyMs;
  return undefined;
}

/**
 * Reads `Retry-After`: seconds or an HTTP date; a date in the past is 0.
 * @param wallMs - Now, in Unix milliseconds.
 * @returns Milliseconds; undefined if it is neither.
 * @see RFC 9110 §10.2.3
 */
export function parseRetryAfter(text: string, wallMs: number): number | undefined {
  if (/^\d{1,15}$/.test(text)) return Number(text) * 1000;
  const date = parseHttpDate(text);
  return date === undefined ? undefined : Math.max(0, date - wallMs);
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
// RFC 9110 §5.6.7: the preferred form, then RFC 850's, then asctime's.
const IMF = /^[A-Z][a-z]{2}, (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT$/;
const RFC850 = /^[A-Z][a-z]+day, (\d{2})-([A-Z][a-z]{2})-(\d{2}) (\d{2}):(\d{2}):(\d{2}) GMT$/;
const ASCTIME = /^[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d{2}):(\d{2}):(\d{2}) (\d{4})$/;

/** Unix milliseconds of an HTTP date; undefined if the text is none. */
export function parseHttpDate(text: string): number | undefined {
  const imf = IMF.exec(text) ?? RFC850.exec(text);
  if (imf !== null) return toUnixMs(imf[3], imf[2], imf[1], imf[4], imf[5], imf[6]);
  const asctime = ASCTIME.exec(text);
  if (asctime === null) return undefined;
  return toUnixMs(asctime[6], asctime[1], asctime[2], asctime[3], asctime[4], asctime[5]);
}

type Part = string | undefined;

function toUnixMs(
  years: Part,
  months: Part,
  days: Part,
  hours: Part,
  minutes: Part,
  seconds: Part,
): number | undefined {
  const month = MONTHS.indexOf(months as string) + 1;
  const day = Number(days);
  const hour = Number(hours);
  const minute = Number(minutes);
  const second = Number(seconds);
  if (month === 0 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) return undefined;
  const short = Number(years);
  const year = (years as string).length > 2 ? short : short + (short < 70 ? 2000 : 1900);
  return (daysFromCivil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second) * 1000;
}

/** Days since 1970-01-01 in the Gregorian calendar; years begin in March, so that the leap day comes last. */
function daysFromCivil(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}
