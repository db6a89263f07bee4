/**
 * The methods of a Hoverboard service, typed. Generated from its OpenRPC document: edit clients/typescript/generate.py instead.
 */

import { Caller, RpcError, type CallOptions, type ClientOptions, type ErrorClasses, type WireError } from "./runtime.js";

export { RpcError, Unreachable, bytes, tensor } from "./runtime.js";
export type { CallOptions, ClientOptions, TensorValue } from "./runtime.js";

export interface AlarmResetResult {
  /** The model's name. */
  model: string;
  /** The version's number. */
  version: number;
  /** It is written down; the recorder resets the alarm when it reads it. */
  accepted: boolean;
}

export interface Bucket {
  /** Samples in the batch. */
  size: number;
  /** Mean execution time in milliseconds, the slowest quarter left out. */
  mean_ms: number;
  /** 99th percentile of all runs, in milliseconds. */
  p99_ms: number;
}

/** One of several labels. */
export interface LabelItem {
  /** A prediction's `sample_id`. */
  sample_id: string;
  /** What it truly was: a class, of 1 to 256 characters. Either this or `value`. All labels that hold of it, for a multi-label version; empty where none does. One label alone stands for a list of it. */
  label?: string | string[] | null;
  /** What it truly was: a number, for a regression. Either this or `label`. */
  value?: number | null;
  /** Who says so, in 1 to 128 characters, such as `support`. The newest label of a sample and source counts. */
  source?: string | null;
  /** The person who says so, in at most 256 characters. */
  author?: string | null;
}

export interface LabelResult {
  /** Labels that were written down. */
  accepted: number;
}

export interface LastFailure {
  /** When, in UTC. */
  at: string;
  /** The graph's own; not shown where inputs are redacted or not recorded. */
  reason: string;
}

export interface ModelDescription {
  /** The model's name. */
  name: string;
  /** Whether a version answers in the role `stable`. */
  ready: boolean;
  /** Role -> the version that fills it. */
  roles: Record<string, number>;
  /** Why the model is not as serving.toml wants it; null if it is. */
  problem: string | null;
  /** What serving.toml says, defaults filled in. */
  serving: Record<string, unknown>;
  /** Ascending. */
  versions: VersionDescription[];
}

export interface ModelList {
  /** By name. */
  models: ModelSummary[];
}

export interface ModelSummary {
  /** The model's name: its folder in the models directory. */
  name: string;
  /** Whether a version answers in the role `stable`. */
  ready: boolean;
  /** Role -> the version that fills it. */
  roles: Record<string, number>;
  /** Every version on disk. */
  versions: number[];
  /** The stable version's task. */
  task: string | null;
  /** Why the model is not as serving.toml wants it; null if it is. */
  problem: string | null;
}

export interface PredictResult {
  /** The model that answered. */
  model: string;
  /** The version that answered. */
  version: number;
  /** One per sample, in the samples' order. */
  predictions: Prediction[];
  /** How long it took. */
  timing: Timing;
}

export interface Prediction {
  /** UUIDv7 under which the sample is remembered. */
  sample_id: string;
  /** Classification: the most probable class. */
  label?: string;
  /** Classification: that class's probability. */
  confidence?: number;
  /** Multi-label: every label at or above its threshold, most probable first; empty for none. */
  labels?: TopClass[];
  /** Classification and multi-label: the `top_k` most probable ones, most probable first. */
  top?: TopClass[];
  /** Regression: the predicted value. */
  value?: number;
  /** Conformal p-value: how usual the sample is. Null for a version without calibration. */
  p_value: number | null;
  /** Whether `p_value` is at most alpha. Null without calibration. */
  outlier: boolean | null;
  /** The most probable label, where `label` is `Uncategorized`, or `labels` empty, because the sample is too strange. */
  nearest?: string;
  /** The model's outputs by name: when asked for, and always for embedding and raw tasks. */
  outputs?: Record<string, unknown>;
}

export interface Tensor {
  /** As calls and answers name it. */
  name: string;
  /** A NumPy name such as `float32`, or `string`. */
  dtype: string;
  /** Of one sample; null is a variable dimension. */
  shape: (number | null)[];
  /** False: null is taken for a number, and stands for NaN. */
  finite: boolean;
  /** Smallest number that is taken. */
  min?: number | null;
  /** Largest number that is taken. */
  max?: number | null;
  /** Most bytes of a text, or elements along each variable dimension. */
  max_length?: number | null;
  /** Fewest elements along each variable dimension: one number, or one for each of them. */
  min_length?: number | number[] | null;
  /** The only values that are taken. */
  allowed?: (string | number)[] | null;
  /** The publisher's, for callers. */
  description?: string;
}

export interface Timing {
  /** Longest wait of the call's samples, in milliseconds. */
  queue_ms: number;
  /** Execution time of the batch, in milliseconds. */
  infer_ms: number;
  /** Samples that shared the batch. */
  batch: number;
}

export interface TopClass {
  /** The class, or one of several labels. */
  label: string;
  /** Its probability. */
  confidence: number;
}

export interface VersionDescription {
  /** The version's number. */
  version: number;
  /** `live` (answers), `loading`, `available` (on disk, loaded on demand) or `refused`. */
  state: string;
  /** Why it is refused. */
  reason: string | null;
  /** `classification`, `multi-label`, `regression`, `embedding` or `raw`. */
  task: string | null;
  /** What it takes; empty until the manifest has been read. */
  inputs: Tensor[];
  /** What its graph answers; the first is the one labels come from. */
  outputs: Tensor[];
  /** Names of the classes, by index of the first output. */
  labels: string[] | null;
  /** How its graph runs; null unless live. */
  executor: string | null;
  /** The batch sizes that it runs in, with their measured times; empty unless live. */
  buckets: Bucket[];
  /** Whether it stays in memory whatever the routing says. */
  pinned: boolean;
  /** What its weights take; null unless live. */
  memory_bytes: number | null;
  /** Milliseconds that loading took; null unless live. */
  load_ms: number | null;
  /** What confined it while it was tried in a process of its own, such as seccomp; null unless live. */
  sandbox: string | null;
  /** What the version promises about outliers, in words. */
  outliers: string | null;
  /** Its manifest.json without the checksums. */
  manifest: Record<string, unknown> | null;
  /** Admin listener only: the last sample that failed in its graph, since it was loaded. */
  last_failure?: LastFailure | null;
}

export interface PredictParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** Samples in row form: each the bare value of a one-input model, or an object by input name. `{"b64": ...}` stands for bytes, `{"b64": ..., "dtype": ..., "shape": [...]}` for a little-endian tensor; null for a number that is not there (NaN), where an input's `finite` is false. Either this or `inputs`. */
  instances?: unknown[];
  /** The same in column form: an object of arrays by input name, all equally long. Either this or `instances`. */
  inputs?: Record<string, unknown>;
  /** A version's number, or a role such as `stable`. */
  version?: number | string;
  /** Milliseconds from arrival after which no answer is wanted; the setting `default_deadline_ms` when left out. A call that cannot make it is refused at once. */
  deadline_ms?: number | null;
  /** How many classes `top` lists, most probable first. */
  top_k?: number;
  /** Whether predictions carry the model's whole outputs. */
  outputs?: boolean;
  /** The caller's own key-value pairs, at most 32, recorded with the sample. None may contain NUL. */
  tags?: Record<string, string> | null;
}

export interface LabelParams {
  /** A prediction's `sample_id`. */
  sample_id?: string | null;
  /** What it truly was: a class, of 1 to 256 characters. Either this or `value`. All labels that hold of it, for a multi-label version; empty where none does. One label alone stands for a list of it. */
  label?: string | string[] | null;
  /** What it truly was: a number, for a regression. Either this or `label`. */
  value?: number | null;
  /** Who says so, in 1 to 128 characters, such as `support`. The newest label of a sample and source counts. */
  source?: string;
  /** The person who says so, in at most 256 characters. */
  author?: string | null;
  /** Several labels at once, at most 1,000, in place of `sample_id`, `label` and `value`. `source` and `author` of the call are for those that have none of their own. */
  labels?: LabelItem[] | null;
  /** Whose samples these are. Then a class that is none of its classes, a number for a classification and a class for a regression are refused. */
  model?: string | null;
  /** The version that answered; when left out, the classes of all versions will do. */
  version?: number | string | null;
}

export interface ModelsDescribeParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** Only this version; all of them when left out. */
  version?: number | null;
}

export interface ModelsLoadParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** A version's number. */
  version: number;
}

export interface ModelsUnloadParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** A version's number. */
  version: number;
}

export interface ModelsRouteParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** The version to answer; null follows the highest ready one. */
  stable: number | null;
}

export interface ModelsPinParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** A version's number. */
  version: number;
}

export interface ModelsUnpinParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** A version's number. */
  version: number;
}

export interface AlarmsResetParams {
  /** A model's name, as `models.list` gives it. */
  model: string;
  /** A version's number. */
  version: number;
  /** Why; it is kept. */
  reason?: string | null;
}

/** -32001, `not_found`: Not found. */
export class NotFound extends RpcError {}

/** -32002, `not_ready`: Not ready yet, try again. */
export class NotReady extends RpcError {}

/** -32005, `overloaded`: Overloaded, try again later. */
export class Overloaded extends RpcError {}

/** -32007, `request_too_large`: Request too large. */
export class RequestTooLarge extends RpcError {}

/** -32008, `response_too_large`: Response too large. */
export class ResponseTooLarge extends RpcError {}

/** -32010, `batch_too_large`: Too many calls in one batch. */
export class BatchTooLarge extends RpcError {}

/** -32012, `deadline_exceeded`: Deadline exceeded, or it cannot be met. */
export class DeadlineExceeded extends RpcError {}

/** -32013, `unauthorized`: Unauthorized. */
export class Unauthorized extends RpcError {}

/** -32600, `invalid_request`: Invalid Request. */
export class InvalidRequest extends RpcError {}

/** -32601, `method_not_found`: Method not found. */
export class UnknownMethod extends RpcError {}

/** -32602, `invalid_params`: Invalid params. */
export class InvalidParams extends RpcError {}

/** -32603, `internal_error`: Internal error. */
export class InternalError extends RpcError {}

/** -32700, `parse_error`: Parse error. */
export class ParseError extends RpcError {}

/** -32001, `model_not_found`: Model not found. */
export class ModelNotFound extends NotFound {}

/** -32001, `version_not_found`: Model version not found. */
export class VersionNotFound extends NotFound {}

/** -32603, `model_failed`: The model failed on this input. */
export class ModelFailed extends InternalError {}

/** -32603, `non_finite_output`: The model answered NaN or Infinity. */
export class NonFiniteOutput extends InternalError {}

const byType: Record<string, new (error: WireError) => RpcError> = {
  not_found: NotFound,
  not_ready: NotReady,
  overloaded: Overloaded,
  request_too_large: RequestTooLarge,
  response_too_large: ResponseTooLarge,
  batch_too_large: BatchTooLarge,
  deadline_exceeded: DeadlineExceeded,
  unauthorized: Unauthorized,
  invalid_request: InvalidRequest,
  method_not_found: UnknownMethod,
  invalid_params: InvalidParams,
  internal_error: InternalError,
  parse_error: ParseError,
  model_not_found: ModelNotFound,
  version_not_found: VersionNotFound,
  model_failed: ModelFailed,
  non_finite_output: NonFiniteOutput,
};

const byCode: Record<number, new (error: WireError) => RpcError> = {
  "-32700": ParseError,
  "-32603": InternalError,
  "-32602": InvalidParams,
  "-32601": UnknownMethod,
  "-32600": InvalidRequest,
  "-32013": Unauthorized,
  "-32012": DeadlineExceeded,
  "-32010": BatchTooLarge,
  "-32008": ResponseTooLarge,
  "-32007": RequestTooLarge,
  "-32005": Overloaded,
  "-32002": NotReady,
  "-32001": NotFound,
};

const CLASSES: ErrorClasses = { byType, byCode };

/**
 * Calls a service. Every call may throw `RpcError` (refused) or `Unreachable` (nothing that speaks JSON-RPC answered); what is
 * worth it is tried again before, within the deadline. Methods of the admin listener want its URL and its token.
 */
export class Client {
  readonly #caller: Caller;

  constructor(url: string, options: ClientOptions = {}) {
    this.#caller = new Caller(url, options, CLASSES);
  }

  /** What a model says about some samples. */
  predict(params: PredictParams, options: CallOptions = {}): Promise<PredictResult> {
    return this.#caller.call("predict", params, options);
  }

  /** Say what a sample truly was. It may come weeks after the prediction, and again. */
  label(params: LabelParams, options: CallOptions = {}): Promise<LabelResult> {
    return this.#caller.call("label", params, options);
  }

  /** Every model, with its versions and roles. */
  modelsList(options: CallOptions = {}): Promise<ModelList> {
    return this.#caller.call("models.list", {}, options);
  }

  /** One model: what its versions take, answer and cost. */
  modelsDescribe(params: ModelsDescribeParams, options: CallOptions = {}): Promise<ModelDescription> {
    return this.#caller.call("models.describe", params, options);
  }

  /** Load a version into memory; answers once it is live. */
  modelsLoad(params: ModelsLoadParams, options: CallOptions = {}): Promise<Record<string, unknown>> {
    return this.#caller.call("models.load", params, options);
  }

  /** Take a version out of memory; it loads again on demand. */
  modelsUnload(params: ModelsUnloadParams, options: CallOptions = {}): Promise<Record<string, unknown>> {
    return this.#caller.call("models.unload", params, options);
  }

  /** Choose the version that answers in the role `stable`. */
  modelsRoute(params: ModelsRouteParams, options: CallOptions = {}): Promise<Record<string, unknown>> {
    return this.#caller.call("models.route", params, options);
  }

  /** Keep a version in memory whatever the routing says. */
  modelsPin(params: ModelsPinParams, options: CallOptions = {}): Promise<Record<string, unknown>> {
    return this.#caller.call("models.pin", params, options);
  }

  /** Let a version go when it is not needed. */
  modelsUnpin(params: ModelsUnpinParams, options: CallOptions = {}): Promise<Record<string, unknown>> {
    return this.#caller.call("models.unpin", params, options);
  }

  /** Look at the models directory now. */
  modelsScan(options: CallOptions = {}): Promise<Record<string, unknown>> {
    return this.#caller.call("models.scan", {}, options);
  }

  /** Take note of a version's alarm: it is quiet, and counts anew from now on. */
  alarmsReset(params: AlarmsResetParams, options: CallOptions = {}): Promise<AlarmResetResult> {
    return this.#caller.call("alarms.reset", params, options);
  }

  /** This service as an OpenRPC document. */
  rpcDiscover(options: CallOptions = {}): Promise<Record<string, unknown>> {
    return this.#caller.call("rpc.discover", {}, options);
  }
}
