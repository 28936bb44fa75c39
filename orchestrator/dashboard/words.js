// What states, phases and verdicts are called, with a sign for each: colour is never the only one.

export const PHASES = {
  staging: { sign: "↓", tone: "busy" },
  deploying: { sign: "▶", tone: "busy" },
  soaking: { sign: "◔", tone: "busy" },
  awaiting_approval: { sign: "‖", tone: "wait", waits: true },
  awaiting_devices: { sign: "‖", tone: "wait", waits: true },
  rolling_back: { sign: "↩", tone: "back" },
  halted: { sign: "■", tone: "bad", waits: true },
  completed: { sign: "✔", tone: "good", ended: true },
  aborted: { sign: "✖", tone: "bad", ended: true },
  rolled_back: { sign: "↩", tone: "bad", ended: true },
  superseded: { sign: "⇥", tone: "calm", ended: true },
};
const PAUSED = { sign: "‖", tone: "wait", waits: true };
const UNKNOWN = { sign: "?", tone: "wait" };

export function phaseLook(status) {
  const look = PHASES[status.phase] ?? UNKNOWN;
  return status.paused && !look.ended ? PAUSED : look;
}

export function phaseWords(status) {
  const words = status.phase.replaceAll("_", " ");
  return status.paused && !PHASES[status.phase]?.ended ? `paused while ${words}` : words;
}

export const VERDICTS = {
  pass: { sign: "✔", tone: "good" },
  caution: { sign: "!", tone: "wait" },
  inconclusive: { sign: "?", tone: "wait" },
  fail: { sign: "✖", tone: "bad" },
};

/** Where a device is; `shape` is how its square is drawn. In the order in which squares are laid out. */
export const PLACES = {
  failed: { words: "failed", tone: "bad", shape: "cross" },
  quarantined: { words: "in quarantine", tone: "bad", shape: "diamond" },
  returning: { words: "going back", tone: "back", shape: "triangle-hollow" },
  returned: { words: "went back", tone: "back", shape: "triangle" },
  working: { words: "installing", tone: "busy", shape: "half" },
  trial: { words: "on trial", tone: "busy", shape: "ring" },
  done: { words: "updated", tone: "good", shape: "full" },
  steady: { words: "as ordered", tone: "good", shape: "full" },
  ordered: { words: "ordered", tone: "calm", shape: "pupil" },
  held: { words: "held", tone: "calm", shape: "bar" },
  waiting: { words: "waiting", tone: "faint", shape: "hollow" },
  unreached: { words: "not reached", tone: "faint", shape: "hollow" },
  skipped: { words: "left out", tone: "faint", shape: "dash" },
  offline: { words: "offline", tone: "wait", shape: "slash" },
  moved: { words: "in a later rollout", tone: "faint", shape: "dot" },
  unknown: { words: "nothing known", tone: "faint", shape: "dot" },
};

/** What each command does, in the order in which a person should consider them. */
export const VERBS = {
  activate: { effect: "let the canary begin; who has not fetched yet does so with its wave", primary: true },
  approve: { effect: "go on with the next wave; the gate is judged again first", primary: true },
  resume: { effect: "go on; failures so far are excused by name", primary: true },
  finish: { effect: "end it as completed with the devices that were reached", grave: true },
  pause: { effect: "nothing more is let go until somebody resumes it" },
  retry: { effect: "order failed and returned devices again" },
  reject: { effect: "bring every deployed device back", grave: true },
  rollback: { effect: "bring every deployed device back", grave: true },
  abort: { effect: "end it; deployed devices stay as they are", grave: true },
};

/** Return the commands that make sense now, in that order. */
export function orderedVerbs(allowed) {
  return Object.keys(VERBS).filter((verb) => allowed.includes(verb));
}

export const spaced = (name) => name.replaceAll("_", " ");
