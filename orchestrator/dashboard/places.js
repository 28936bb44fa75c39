// Where devices are: of one rollout, and in the fleet. Pure functions of what the bus has said.

const PROGRESS = {
  pending: "waiting",
  ordered: "ordered",
  granted: "working",
  proven: "trial",
  committed: "done",
  failed: "failed",
  returning: "returning",
  returned: "returned",
  stranded: "failed",
  held: "held",
  skipped: "skipped",
};
const WORKING = new Set(["downloading", "verifying", "installing", "ready", "draining", "switching", "waiting"]);
const ORDER = [
  "done",
  "trial",
  "working",
  "ordered",
  "held",
  "waiting",
  "unreached",
  "returning",
  "returned",
  "failed",
  "skipped",
];
const UNREACHED = new Set(["pending", "ordered", "held"]);

/** Return how many devices are where, `[[place, count], …]`, from what the orchestrator counts of a rollout or a wave. */
export function placesOfCounts(counts, isOver = false) {
  const found = new Map();
  for (const [progress, size] of Object.entries(counts)) {
    const place = isOver && UNREACHED.has(progress) ? "unreached" : PROGRESS[progress];
    if (place && size > 0) found.set(place, (found.get(place) ?? 0) + size);
  }
  return ORDER.filter((place) => found.has(place)).map((place) => [place, found.get(place)]);
}

/** Return where a device is in a rollout; one that has an order of a later rollout has `moved` on. */
export function placeInRollout(device, rollout, rollouts) {
  const desired = device?.desired;
  if (!desired || desired.rollout !== rollout.id) {
    if (rollout.status.endedAt === null) return "waiting";
    return rollouts.get(desired?.rollout)?.status?.startedAt > rollout.status.startedAt ? "moved" : "unreached";
  }
  const reported = device.reported;
  const isBehind = !reported || reported.observed < desired.generation;
  if (desired.action === "hold") return "held";
  if (desired.action === "rollback")
    return !isBehind && reported.installed === desired.version && reported.state === "idle" ? "returned" : "returning";
  if (device.online === false && (isBehind || reported.installed !== desired.version)) return "offline";
  if (isBehind) return "ordered";
  return placeOfState(reported.state, () => (reported.installed === desired.version ? "done" : "ordered"));
}

/** Return where a device is, whatever it was ordered. */
export function placeInFleet(device, quarantined) {
  if (quarantined.has(device.id)) return "quarantined";
  const { reported, desired } = device;
  if (reported?.state === "failed") return "failed";
  if (device.online === false) return "offline";
  if (!reported) return "unknown";
  if (desired && desired.action !== "hold" && reported.observed < desired.generation) return "ordered";
  return placeOfState(reported.state, () => "steady");
}

function placeOfState(state, idle) {
  if (state === "failed") return "failed";
  if (state === "rolled_back") return "returned";
  if (state === "rolling_back") return "returning";
  if (state === "trial") return "trial";
  return WORKING.has(state) ? "working" : idle();
}

/** Return the members of a wave that can be named, in the wave's order or by name. */
export function membersOf(model, rollout, wave) {
  const named = rollout.waves.get(wave)?.members;
  if (named) return named;
  return [...(model.members.get(rollout.id)?.get(wave) ?? [])].sort();
}

/** Return the devices by group, each with its place: `[{group, devices: [{id, place}], counts}]`, sorted by name. */
export function fleetByGroup(model, accepts) {
  const groups = new Map();
  for (const device of model.devices.values()) {
    if (!accepts(device)) continue;
    const name = device.info?.group || "no group";
    if (!groups.has(name)) groups.set(name, { group: name, devices: [], counts: new Map() });
    const found = groups.get(name);
    const place = placeInFleet(device, model.quarantined);
    found.devices.push({ id: device.id, place });
    found.counts.set(place, (found.counts.get(place) ?? 0) + 1);
  }
  const byName = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
  for (const each of groups.values()) each.devices.sort((one, other) => byName(one.id, other.id));
  return [...groups.values()].sort((one, other) => byName(one.group, other.group));
}
