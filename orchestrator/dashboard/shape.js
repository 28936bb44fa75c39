// Documents as the page needs them. Whoever may publish may publish nonsense: a field that is not what it must be is
// read as unknown, so that nothing that arrives can break a view.

const TEXT_MAX = 1024;
const LIST_MAX = 512;

export const text = (value, other = "") => (typeof value === "string" ? value.slice(0, TEXT_MAX) : other);
export const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
export const count = (value) => Math.max(0, Math.trunc(number(value) ?? 0));
export const list = (value) => (Array.isArray(value) ? value.slice(0, LIST_MAX) : []);
export const texts = (value) =>
  list(value)
    .filter((each) => typeof each === "string")
    .map((each) => text(each));
export const object = (value) => (value && typeof value === "object" && !Array.isArray(value) ? value : {});
export const isObject = (value) => Boolean(value) && typeof value === "object" && !Array.isArray(value);

/** Return a moment in milliseconds, or null. */
export function moment(value) {
  const at = Date.parse(text(value));
  return Number.isNaN(at) ? null : at;
}

export function counts(value) {
  return Object.fromEntries(
    Object.entries(object(value))
      .slice(0, 64)
      .map(([name, each]) => [name, count(each)]),
  );
}

export function status(body) {
  return {
    release: text(body.release),
    version: text(body.version),
    phase: text(body.phase, "unknown"),
    wave: text(body.wave, null),
    paused: body.paused === true,
    frozen: body.frozen === true,
    counts: counts(body.counts),
    reasons: texts(body.reasons),
    allowed: texts(body.allowed),
    nextAt: moment(body.next_decision_at),
    startedAt: moment(body.started_at),
    startedBy: text(body.started_by),
    endedAt: moment(body.ended_at),
    at: moment(body.ts),
    planDigest: text(body.plan_digest),
    fromVersions: counts(body.from_versions),
    waves: list(body.waves).filter(isObject).map(waveStatus),
  };
}

function waveStatus(body) {
  return {
    wave: text(body.wave),
    devices: count(body.devices),
    done: count(body.done),
    healthy: count(body.healthy),
    failed: count(body.failed),
    offline: count(body.offline),
    state: text(body.state),
    gate: text(body.gate, null),
    soaked: number(body.soaked_seconds) ?? 0,
    soakRequired: number(body.soak_required_seconds) ?? 0,
  };
}

export function wave(body) {
  return {
    devices: count(body.device_count),
    members: Array.isArray(body.members) ? texts(body.members) : null,
    state: text(body.state),
    counts: counts(body.counts),
    startedAt: moment(body.started_at),
    health: isObject(body.health) ? health(body.health) : null,
  };
}

export function health(body) {
  return {
    fresh: count(body.fresh),
    healthy: count(body.healthy),
    requests: count(body.requests),
    devices: count(body.devices),
    errorRate: number(body.error_rate),
    p50: number(body.latency_p50_seconds),
    p95: number(body.latency_p95_seconds),
  };
}

export function check(body) {
  return {
    check: text(body.check),
    rule: text(body.limit_expr),
    observed: number(body.observed),
    baseline: number(body.baseline),
    limit: number(body.limit),
    samples: count(body.samples),
    verdict: text(body.verdict),
    why: text(body.why),
    dryRun: body.dry_run === true,
  };
}

export function gate(body) {
  return {
    gate: text(body.gate),
    verdict: text(body.verdict),
    decision: text(body.decision),
    at: moment(body.evaluated_at),
    devices: count(body.devices),
    phase: text(body.phase, null),
    notJudged: texts(body.not_judged),
    checks: list(body.checks).filter(isObject).map(check),
  };
}

export function plan(body) {
  return {
    waves: list(body.waves)
      .filter(isObject)
      .map((each) => ({ wave: text(each.wave), devices: count(each.devices), soak: number(each.soak_seconds) ?? 0 })),
    canary: Object.fromEntries(
      Object.entries(object(body.canary))
        .slice(0, LIST_MAX)
        .map(([id, why]) => [id, text(why)]),
    ),
    excluded: counts(body.excluded),
    targets: count(body.targets),
    seed: text(String(body.seed ?? "")),
    strategy: text(body.strategy),
    policy: isObject(body.policy) ? body.policy : null,
    warnings: texts(body.warnings),
  };
}

export function info(body) {
  return {
    session: count(body.session),
    agent: text(body.agent),
    type: text(body.device_type),
    arch: text(body.arch),
    region: text(body.region),
    group: text(body.group),
    site: text(body.site),
    slots: texts(body.slots),
    tags: texts(body.tags),
    version: text(body.version),
    issues: texts(body.known_issues),
    maintenance: body.maintenance === true,
    spof: body.single_point_of_failure === true,
    diskFree: number(body.disk_free_bytes),
    memory: number(body.memory_total_bytes),
    sleepingUntil: moment(body.sleeping_until),
    signals: texts(body.signals),
    formats: texts(body.formats),
    zone: text(body.time_zone),
    at: moment(body.ts),
  };
}

export function desired(body) {
  return {
    generation: count(body.generation),
    epoch: count(body.epoch),
    rollout: text(body.rollout),
    wave: text(body.wave),
    action: text(body.action),
    release: text(body.release),
    version: text(body.version),
    strategy: text(body.strategy),
    commitOn: text(body.commit_on),
  };
}

export function reported(body) {
  return {
    observed: count(body.observed_generation),
    state: text(body.state, "unknown"),
    installed: text(body.installed_version),
    latest: text(body.latest_version),
    percentage: number(body.update_percentage),
    slot: text(body.slot),
    previous: text(body.previous_version),
    error: isObject(body.error) ? error(body.error) : null,
    at: moment(body.ts),
  };
}

function error(body) {
  return {
    code: text(body.code),
    step: text(body.step),
    message: text(body.message),
    retryable: body.retryable === true,
  };
}

export function event(kind, body) {
  return {
    kind,
    at: moment(body.ts),
    wave: text(body.wave),
    device: text(body.device),
    message: text(body.message),
    by: text(object(body.detail).by),
    code: text(object(body.detail).code),
    error: isObject(body.error) ? error(body.error) : null,
    version: text(body.version),
  };
}

export function rollback(scope, body) {
  return {
    kind: "rollback",
    at: moment(body.ts),
    wave: "",
    device: "",
    by: "",
    code: "",
    message: `${text(body.trigger)}: ${text(body.action)}, scope ${scope}, ${count(body.device_count)} devices`,
    checks: list(body.evidence).filter(isObject).map(check),
  };
}

export function sample(body, at) {
  return {
    at,
    seq: count(body.seq),
    boot: text(body.boot_id),
    version: text(body.version),
    requests: number(body.requests_total),
    errors: number(body.errors_total),
    p95: number(body.latency_p95_seconds) ?? quantile(object(body.latency), 0.95),
    memory: number(body.memory_bytes),
    cpu: number(body.cpu_ratio),
    temperature: number(body.temperature_celsius),
    restarts: number(body.restarts_total),
    healthy: typeof body.healthy === "boolean" ? body.healthy : null,
    up: typeof body.endpoint_up === "boolean" ? body.endpoint_up : null,
    diskFree: number(body.disk_free_bytes),
    unreadable: body.unreadable === true,
  };
}

/** Read a quantile from a sketch: count i is for values in (gamma^(offset+i-1), gamma^(offset+i)]. */
export function quantile(sketch, share) {
  const sizes = list(sketch.counts).map(count);
  const total = sizes.reduce((sum, each) => sum + each, 0);
  const gamma = number(sketch.gamma);
  if (total === 0 || gamma === null || gamma <= 1) return null;
  let below = 0;
  const index = sizes.findIndex((each) => (below += each) >= share * total);
  return (2 * gamma ** (index + (number(sketch.offset) ?? 0))) / (1 + gamma);
}
