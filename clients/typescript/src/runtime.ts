/**
 * What the generated client stands on, written by hand: messages, tries within a deadline, errors, tensors.
 *
 * For Node.js 18 and later, Deno, Bun and browsers: it needs `fetch` and nothing else.
 */

/** A service refused a call. Its classes are in `client.ts`, one for each `data.type`; the base stands for what they do not know. */
export class RpcError extends Error {
  /** JSON-RPC's code. */
  readonly code: number;
  /** `data.type`, finer than the code. */
  readonly type: string;
  /** Whether trying again may help. */
  readonly retryable: boolean;
  /** Milliseconds after which it is worth it, where the server knows. */
  readonly retryAfterMs: number | undefined;
  /** Under which the server logs and records the call. */
  readonly requestId: string | undefined;
  /** For params that break a contract: `pointer`, `expected`, `got`. */
  readonly details: Record<string, unknown> | undefined;

  constructor(error: WireError) {
    super(`${error.message} (${error.code}${error.data?.type ? ` ${error.data.type}` : ""})`);
    this.name = new.target.name;
    this.code = error.code;
    this.type = error.data?.type ?? "";
    this.retryable = error.data?.retryable === true;
    this.retryAfterMs = error.data?.retry_after_ms;
    this.requestId = error.data?.request_id;
    this.details = error.data?.details;
  }
}

/** Nothing that speaks JSON-RPC answered. */
export class Unreachable extends Error {
  /**
   * @param message one sentence.
   * @param sent whether the call may have been carried out all the same.
   * @param retryAfterMs when trying again is worth it, where whoever answered said so.
   */
  constructor(
    message: string,
    readonly sent: boolean,
    readonly retryAfterMs?: number,
  ) {
    super(message);
    this.name = "Unreachable";
  }
}

/** The `error` member of a response. */
export interface WireError {
  code: number;
  message: string;
  data?: {
    type?: string;
    retryable?: boolean;
    retry_after_ms?: number;
    request_id?: string;
    details?: Record<string, unknown>;
  };
}

/** Which class an error becomes: by `data.type`, or else by code. */
export interface ErrorClasses {
  byType: Readonly<Record<string, new (error: WireError) => RpcError>>;
  byCode: Readonly<Record<number, new (error: WireError) => RpcError>>;
}

export interface ClientOptions {
  /** The admin listener's bearer token. */
  token?: string;
  /** Milliseconds that a call may take, its tries together; 60,000 when left out. */
  patienceMs?: number;
  /** Most tries of one call, the first included; 6 when left out. */
  attempts?: number;
  /** In place of the global `fetch`. */
  fetch?: typeof fetch;
}

export interface CallOptions {
  /** Milliseconds until no answer is wanted, all tries included. `predict` tells the server, too. */
  deadlineMs?: number;
  /** Gives the call up. */
  signal?: AbortSignal;
}

/** Calls that may be sent again when nobody knows whether they were carried out. */
const SAFE = new Set(["predict", "label", "models.list", "models.describe", "rpc.discover"]);
const FIRST_MS = 100;
const LONGEST_MS = 10_000;
/** Milliseconds beyond the deadline that the server's own word on it is waited for. */
const GRACE_MS = 200;

/** Sends calls; the generated `Client` gives each method its types. */
export class Caller {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #patienceMs: number;
  readonly #attempts: number;
  readonly #fetch: typeof fetch;
  readonly #classes: ErrorClasses;
  #id = 0;

  constructor(url: string, options: ClientOptions, classes: ErrorClasses) {
    this.#url = url;
    this.#headers = { "Content-Type": "application/json" };
    if (options.token) this.#headers["Authorization"] = `Bearer ${options.token}`;
    this.#patienceMs = options.patienceMs ?? 60_000;
    this.#attempts = options.attempts ?? 6;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#classes = classes;
  }

  /** The result of one call, tried as often as it is worth it and the deadline allows. */
  async call<T>(method: string, params: object, options: CallOptions = {}): Promise<T> {
    const until = Date.now() + (options.deadlineMs ?? this.#patienceMs);
    for (let attempt = 1; ; attempt++) {
      const left = Math.max(until - Date.now(), 1);
      const told = method === "predict" && options.deadlineMs !== undefined ? { deadline_ms: left } : {};
      try {
        return await this.#once<T>(method, { ...params, ...told }, left, options.signal);
      } catch (error) {
        const pause = attempt < this.#attempts ? pauseMs(error, method, attempt) : undefined;
        if (pause === undefined || Date.now() + pause >= until) throw error;
        await sleep(pause, options.signal);
      }
    }
  }

  async #once<T>(method: string, params: object, leftMs: number, signal: AbortSignal | undefined): Promise<T> {
    signal?.throwIfAborted();
    const body = written({ jsonrpc: "2.0", id: ++this.#id, method, params });
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    const timer = setTimeout(() => stop.abort(), leftMs + GRACE_MS);
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(this.#url, {
        method: "POST",
        headers: this.#headers,
        body,
        signal: stop.signal,
      });
      text = await response.text();
    } catch (error) {
      signal?.throwIfAborted();
      if (stop.signal.aborted) {
        const message = `${this.#url} did not answer ${method} in time`;
        throw this.#error({ code: -32012, message, data: { type: "deadline_exceeded" } });
      }
      throw new Unreachable(`no server answers at ${this.#url} (${reason(error)})`, !refused(error));
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
    const answer = parsed(text);
    if (answer?.error) throw this.#error(answer.error);
    if (answer?.jsonrpc !== "2.0") {
      const notSent = response.status === 429 || response.status === 503;
      const after = Number(response.headers.get("Retry-After"));
      const message = `${this.#url} answered HTTP ${response.status} without JSON-RPC`;
      throw new Unreachable(message, !notSent, after > 0 ? after * 1000 : undefined);
    }
    return answer.result as T;
  }

  #error(error: WireError): RpcError {
    const known = this.#classes.byType[error.data?.type ?? ""] ?? this.#classes.byCode[error.code] ?? RpcError;
    return new known(error);
  }
}

/** A message as JSON, which has no NaN and no Infinity: `JSON.stringify` makes null of them, and null is a missing number. */
function written(message: { params: object; [member: string]: unknown }): string {
  const text = JSON.stringify(message);
  // Looking for such a number takes longer than writing: only where there may be one.
  const found = text.includes("null") ? notFinite(message.params) : undefined;
  if (found === undefined) return text;
  const what = `${found.pointer}: expected a number that JSON has, got ${found.value}`;
  throw new RangeError(`${what}; send null where the model's input takes missing values, or leave the sample out`);
}

/** The first number that JSON does not have, and where it is, as a JSON pointer. */
function notFinite(value: unknown): { pointer: string; value: number } | undefined {
  if (typeof value === "number") return Number.isFinite(value) ? undefined : { pointer: "", value };
  if (typeof value !== "object" || value === null) return undefined;
  for (const [name, each] of Object.entries(value)) {
    const found = notFinite(each);
    if (found) return { ...found, pointer: `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}${found.pointer}` };
  }
  return undefined;
}

/** Milliseconds before the next try; undefined where there is to be none. */
function pauseMs(error: unknown, method: string, attempt: number): number | undefined {
  if (error instanceof RpcError ? !error.retryable : !(error instanceof Unreachable && (!error.sent || SAFE.has(method)))) {
    return undefined;
  }
  const after = (error as RpcError | Unreachable).retryAfterMs;
  if (after !== undefined) return Math.min(after * (1 + Math.random() / 4), LONGEST_MS);
  return Math.random() * Math.min(FIRST_MS * 2 ** (attempt - 1), LONGEST_MS);
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort);
  });
}

function parsed(text: string): { jsonrpc?: string; result?: unknown; error?: WireError } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Why `fetch` failed: Node.js hides it in `cause`. */
function cause(error: unknown): { code?: string; message?: string } {
  const inner = (error as { cause?: { code?: string; message?: string } }).cause;
  return inner ?? (error as { message?: string });
}

function reason(error: unknown): string {
  const { code, message } = cause(error);
  return code ?? message ?? String(error);
}

function refused(error: unknown): boolean {
  return ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"].includes(cause(error).code ?? "");
}

/** A tensor as the service takes it: little-endian bytes in base64. */
export interface TensorValue {
  b64: string;
  dtype: string;
  shape: number[];
}

const DTYPES = new Map<unknown, string>([
  [Int8Array, "int8"],
  [Uint8Array, "uint8"],
  [Int16Array, "int16"],
  [Uint16Array, "uint16"],
  [Int32Array, "int32"],
  [Uint32Array, "uint32"],
  [BigInt64Array, "int64"],
  [Float32Array, "float32"],
  [Float64Array, "float64"],
]);

/**
 * A typed array as a tensor: `tensor(new Float32Array(128), [2, 64])`. As a column in `inputs` it is all samples at once, the
 * first axis theirs; in `instances` it is one sample. Its dtype must fit into the input's: a Float64Array does not into float32.
 */
export function tensor(values: ArrayBufferView, shape: number[]): TensorValue {
  const dtype = DTYPES.get(values.constructor);
  if (dtype === undefined) throw new TypeError(`a tensor of ${values.constructor.name} cannot be sent`);
  return { b64: base64(values), dtype, shape };
}

/** Bytes as the service takes them, for inputs of dtype string that are no text. */
export function bytes(values: ArrayBufferView): { b64: string } {
  return { b64: base64(values) };
}

function base64(values: ArrayBufferView): string {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  // In pieces: a call takes only so many arguments.
  for (let at = 0; at < data.length; at += 0x8000) text += String.fromCharCode(...data.subarray(at, at + 0x8000));
  return btoa(text);
}
