// Commands to the orchestrator over the broker, each with its answer; exactly what `tidegate` and mosquitto_pub do.

const ANSWER_MILLISECONDS = 10_000;

/** Sends commands as one user and finds the answer to each by its transaction. */
export class Commands {
  /**
   * @param publish Takes topic, payload and retain; returns a promise of what went wrong, "" if nothing.
   * @param availability Returns what the orchestrator's presence says.
   */
  constructor(user, publish, availability) {
    this.user = user;
    this.publish = publish;
    this.availability = availability;
    this.pending = new Map();
  }

  /** Send a command; the promise is kept with `{data}` or `{error: {code, message, …}}`, and never broken. */
  async ask(verb, body) {
    if (!this.user) return refused("not_allowed", "log in with a user name: commands are sent under it");
    const transaction = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) =>
      byte.toString(16).padStart(2, "0"),
    ).join("");
    const answer = new Promise((resolve) => this.pending.set(transaction, { verb, resolve }));
    const error = await this.publish(`ops/${this.user}/cmd/${verb}`, JSON.stringify({ ...body, transaction }), false);
    if (error) this.settle(transaction, refused("not_sent", error));
    const timer = setTimeout(() => this.settle(transaction, refused("no_answer", this.silence())), ANSWER_MILLISECONDS);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Take an answer from the bus; one that could not be read by the orchestrator comes without its transaction. */
  hear(verb, body) {
    const { transaction, error, data, status } = body;
    const own = this.pending.has(transaction)
      ? transaction
      : [...this.pending].find(([, each]) => each.verb === verb)?.[0];
    if (own === undefined || (own !== transaction && (transaction || status !== "error"))) return;
    this.settle(
      own,
      status === "error" ? refused(String(error?.code), String(error?.message), error) : { data: data ?? {} },
    );
  }

  settle(transaction, answer) {
    this.pending.get(transaction)?.resolve(answer);
    this.pending.delete(transaction);
  }

  silence() {
    const seen = this.availability();
    if (seen === "offline") return "no answer within 10 s: the orchestrator is offline, nothing was carried out";
    if (seen === "online")
      return `no answer within 10 s, though the orchestrator is connected: may ${this.user} command here, and read the answers (the broker's access list)?`;
    return "no answer within 10 s: no orchestrator was ever seen on this broker; is it the right one, and the right topic root?";
  }
}

function refused(code, message, more) {
  return { error: { allowed: [], did_you_mean: [], ...more, code, message } };
}

/** Write an error for people, with what would have been right. */
export function errorText({ code, message, did_you_mean: near, allowed, field }) {
  const hints = [
    Array.isArray(near) && near.length ? `did you mean ${near.join(", ")}?` : "",
    Array.isArray(allowed) && allowed.length ? `allowed now: ${allowed.join(", ")}` : "",
    field && !message.includes(field) ? `field: ${field}` : "",
  ].filter(Boolean);
  return `${message} (${[code, ...hints].join("; ")})`;
}
