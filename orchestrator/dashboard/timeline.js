// When waves were, are and will be, as far as the documents say; a pure function of a rollout and the time.

/**
 * Return `{from, to, rows}` in milliseconds. Of each wave: from when, until when its gate was last
 * judged, until when that is known, and until when it is expected to go on at least.
 */
export function timelineOf(rollout, now) {
  const { status } = rollout;
  const isOver = status.endedAt !== null;
  const last = status.endedAt ?? now;
  let from = status.startedAt ?? now;
  const rows = [];
  for (const wave of status.waves) {
    const gate = rollout.gates.get(wave.wave) ?? null;
    const isCurrent = wave.wave === status.wave;
    const began = isCurrent || wave.state === "done" || gate !== null || hasBegun(rollout.waves.get(wave.wave));
    const left = Math.max(0, wave.soakRequired - wave.soaked) * 1000;
    const startedAt = isCurrent ? (rollout.waves.get(wave.wave)?.startedAt ?? from) : from;
    let endsAt = from;
    if (isCurrent) endsAt = Math.max(now, status.nextAt ?? now + left);
    else if (began) endsAt = Math.min(last, gate?.at ?? last);
    else if (!isOver) endsAt = from + Math.max(left, 1000);
    endsAt = Math.max(startedAt, endsAt);
    const before = rows.at(-1);
    if (isCurrent && before) before.sureUntil = before.endsAt = startedAt; // what was between was waiting, for a person mostly
    const sureUntil = began ? Math.min(last, isCurrent ? now : endsAt) : startedAt;
    const judgedAt = gate?.at ? Math.min(sureUntil, Math.max(startedAt, gate.at)) : sureUntil;
    rows.push({ wave: wave.wave, isCurrent, began, startedAt, judgedAt, sureUntil, endsAt, gate });
    if (began || !isOver) from = endsAt;
  }
  const to = Math.max(last, from, (status.startedAt ?? now) + 1000);
  return { from: status.startedAt ?? now, to, last, isOver, rows };
}

/** A wave of which any device was let go or came back has begun. */
function hasBegun(wave) {
  return (
    Boolean(wave) &&
    Object.entries(wave.counts).some(
      ([progress, size]) =>
        size > 0 && !["pending", "ordered", "held", "skipped", "total", "failed_ever"].includes(progress),
    )
  );
}

/** Return round moments for an axis from `from` to `to`, seven at most. */
export function ticks(from, to) {
  const steps = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800,
  ];
  const step = (steps.find((each) => (to - from) / 1000 / each <= 6) ?? steps.at(-1)) * 1000;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to && found.length < 8; at += step) found.push(at);
  return found;
}
