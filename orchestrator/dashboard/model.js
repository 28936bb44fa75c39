// What the bus has said so far, folded message by message. No clock, no document, no network: a message goes in, and
// what it changed is noted.

import * as shape from "./shape.js";

const EVENTS_KEPT = 200;
const AUDIT_KEPT = 1000;
const SAMPLES_KEPT = 900;

/** Return a model of a bus of which nothing is known yet. */
export function createModel() {
  return {
    rollouts: new Map(),
    devices: new Map(),
    groups: new Map(),
    evaluators: new Map(),
    members: new Map(),
    orchestrator: { availability: "", version: "", epoch: 0, startedAt: null },
    hold: null,
    holdHeardAt: 0,
    audit: [],
    auditGaps: 0,
    quarantined: new Map(),
    replies: [],
    heard: {},
    unreadable: 0,
    fleetRevision: 0,
  };
}

/** Fold one message, `{kind, ids, body, retained}`, that arrived at `at` milliseconds. */
export function hear(model, { kind, ids, body, retained }, at) {
  model.heard[kind] = (model.heard[kind] ?? 0) + 1;
  const isDocument = shape.isObject(body);
  if (body === undefined || (body !== null && !isDocument && typeof body !== "string")) model.unreadable += 1;
  else if (ids.device !== undefined) hearDevice(model, kind, ids, isDocument ? body : null, body, at);
  else if (ids.rollout !== undefined) hearRollout(model, kind, ids, isDocument ? body : null, at);
  else if (kind === "orchestrator_availability") model.orchestrator.availability = shape.text(body);
  else if (kind === "evaluator_availability") model.evaluators.set(ids.worker, shape.text(body));
  else if (kind === "hold") hearHold(model, isDocument ? body : null, retained, at);
  else if (isDocument) hearOther(model, kind, ids, body, at);
}

function hearHold(model, body, retained, at) {
  model.holdHeardAt = at;
  model.hold = body && { reason: shape.text(body.reason), by: shape.text(body.by), since: retained ? null : at };
}

function hearOther(model, kind, ids, body, at) {
  if (kind === "orchestrator_info") {
    Object.assign(model.orchestrator, {
      version: shape.text(body.version),
      epoch: shape.count(body.epoch),
      startedAt: shape.moment(body.started_at),
    });
  } else if (kind === "group_summary") model.groups.set(ids.group, { ...shape.health(body), at });
  else if (kind === "reply") model.replies.push({ verb: ids.verb, body });
  else if (kind === "audit") hearAudit(model, body);
}

function hearRollout(model, kind, ids, body, at) {
  if (body === null) {
    if (kind === "status") model.rollouts.delete(ids.rollout);
    return;
  }
  const rollout = entry(model.rollouts, ids.rollout, () => ({
    id: ids.rollout,
    status: null,
    plan: null,
    waves: new Map(),
    gates: new Map(),
    events: [],
    heardAt: at,
  }));
  rollout.heardAt = at;
  if (kind === "status") rollout.status = shape.status(body);
  else if (kind === "plan") rollout.plan = shape.plan(body);
  else if (kind === "wave") rollout.waves.set(ids.wave, shape.wave(body));
  else if (kind === "gate") rollout.gates.set(ids.wave, shape.gate(body));
  else if (kind === "rollout_event") keep(rollout.events, { at, ...shape.event(ids.kind, body) }, EVENTS_KEPT);
  else if (kind === "rollback") keep(rollout.events, { at, ...shape.rollback(ids.scope, body) }, EVENTS_KEPT);
}

function hearDevice(model, kind, ids, body, raw, at) {
  const device = entry(model.devices, ids.device, () => ({
    id: ids.device,
    online: null,
    info: null,
    desired: null,
    reported: null,
    events: [],
    samples: [],
    heardAt: at,
  }));
  device.heardAt = at;
  if (kind === "health") {
    if (body) keep(device.samples, shape.sample(body, at), SAMPLES_KEPT);
    return;
  }
  model.fleetRevision += 1;
  if (kind === "availability") device.online = raw === "online" ? true : raw === "offline" ? false : null;
  else if (kind === "info") device.info = body && shape.info(body);
  else if (kind === "reported") device.reported = body && shape.reported(body);
  else if (kind === "desired") order(model, device, body && shape.desired(body));
  else if (kind === "device_event" && body) keep(device.events, { at, ...shape.event(ids.kind, body) }, EVENTS_KEPT);
}

/** Note an order, and where in its rollout the device is. */
function order(model, device, desired) {
  const before = device.desired;
  if (before) model.members.get(before.rollout)?.get(before.wave)?.delete(device.id);
  device.desired = desired;
  if (desired)
    entry(
      entry(model.members, desired.rollout, () => new Map()),
      desired.wave,
      () => new Set(),
    ).add(device.id);
}

function hearAudit(model, body) {
  const record = {
    seq: shape.count(body.seq),
    at: shape.moment(body.at),
    kind: shape.text(body.kind),
    body: shape.object(body.body),
    hash: shape.text(body.hash),
    previous: shape.text(body.previous_hash),
  };
  const last = model.audit.at(-1);
  record.follows = last === undefined || (record.seq === last.seq + 1 && record.previous === last.hash);
  if (!record.follows) model.auditGaps += 1;
  keep(model.audit, record, AUDIT_KEPT);
  if (record.kind === "device_quarantined")
    model.quarantined.set(shape.text(record.body.device), shape.text(record.body.reason));
  if (record.kind === "device_released") model.quarantined.delete(shape.text(record.body.device));
}

function entry(map, key, make) {
  if (!map.has(key)) map.set(key, make());
  return map.get(key);
}

function keep(items, item, most) {
  items.push(item);
  if (items.length > most) items.splice(0, items.length - most);
}

/** Forget what was not said again since `since`, a new connection: it was taken away while nobody listened. */
export function sweep(model, since) {
  for (const map of [model.rollouts, model.devices])
    for (const [id, each] of map) if (each.heardAt < since) map.delete(id);
  for (const [id, each] of model.groups) if (each.at < since) model.groups.delete(id);
  for (const waves of model.members.values())
    for (const devices of waves.values()) for (const id of devices) if (!model.devices.has(id)) devices.delete(id);
  if (model.holdHeardAt < since) model.hold = null;
  model.fleetRevision += 1;
}
