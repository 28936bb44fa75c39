// The topic tree below one root: what is subscribed to, and what a topic is about.

const ID = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}";
const PATTERNS = {
  availability: "device/{device}/availability",
  info: "device/{device}/info",
  desired: "device/{device}/desired",
  reported: "device/{device}/reported",
  device_event: "device/{device}/event/{kind}",
  health: "health/{shard}/{device}",
  group_summary: "group/{group}/summary",
  hold: "all/hold",
  plan: "rollout/{rollout}/plan",
  status: "rollout/{rollout}/status",
  wave: "rollout/{rollout}/wave/{wave}",
  gate: "rollout/{rollout}/gate/{wave}",
  rollback: "rollout/{rollout}/rollback/{scope}",
  rollout_event: "rollout/{rollout}/event/{kind}",
  reply: "ops/{actor}/reply/{verb}",
  orchestrator_availability: "orchestrator/availability",
  orchestrator_info: "orchestrator/info",
  evaluator_availability: "evaluator/{worker}/availability",
  audit: "audit",
};
const PARSERS = Object.entries(PATTERNS).map(([kind, pattern]) => [
  kind,
  new RegExp(`^${pattern.replace(/\{(\w+)\}/g, `(?<$1>${ID})`)}$`),
]);

/** What is subscribed to, each with what a person misses without it. QoS 1: of a large fleet's
 * retained documents a broker drops what a slow reader does not take in time, unless it must be acknowledged. */
export const SUBSCRIPTIONS = [
  { filter: "rollout/#", qos: 1, what: "rollouts" },
  { filter: "orchestrator/#", qos: 1, what: "the orchestrator" },
  { filter: "evaluator/+/availability", qos: 1, what: "evaluators" },
  { filter: "all/hold", qos: 1, what: "the brake" },
  { filter: "group/+/summary", qos: 1, what: "groups" },
  { filter: "audit", qos: 1, what: "the audit" },
  { filter: "device/+/availability", qos: 1, what: "presence of devices" },
  { filter: "device/+/info", qos: 1, what: "what devices are" },
  { filter: "device/+/reported", qos: 1, what: "what devices run" },
  { filter: "device/+/desired", qos: 1, what: "orders of devices" },
  { filter: "device/+/event/+", qos: 0, what: "events of devices" },
];

/** Say whether `text` may stand in a topic. */
export function isId(text) {
  return new RegExp(`^${ID}$`).test(text);
}

/** Return what a topic is about, `{kind, ids}`, or null if it is none of the tree's. */
export function parseTopic(root, topic) {
  if (topic.length > 512 || !topic.startsWith(`${root}/`)) return null;
  const rest = topic.slice(root.length + 1);
  for (const [kind, pattern] of PARSERS) {
    const match = pattern.exec(rest);
    if (match) return { kind, ids: { ...match.groups } };
  }
  return null;
}
