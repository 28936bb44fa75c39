"""One line for each journal entry: who, about which device, what came of it, and the entry in plain words."""

from typing import Final

from orchestrator.reporting.entries import Body, Entry, UnreadableEntryError, media_text
from orchestrator.reporting.model import AuditRow
from schemas.times import format_duration

SYSTEM: Final = "orchestrator"
DEVICE_SAID: Final = frozenset(
    {"device_announced", "device_staged", "device_proven", "device_committed", "device_failed", "device_returned"}
)
"""Kinds that a device's own words led to."""
_OUTCOMES: Final = {
    "command_answered": ("code", "status"),
    "devices_ordered": ("action",),
    "grant_issued": ("step",),
    "device_failed": ("code",),
    "device_committed": ("version",),
    "device_returned": ("version",),
    "gate_judged": ("verdict",),
    "rollback_ordered": ("scope",),
    "rollback_verified": ("verdict",),
    "rollout_ended": ("outcome",),
}


def audit_row(entry: Entry, body: Body) -> AuditRow:
    """Return the row of an entry; an unknown kind shows the beginning of its body."""
    said_by_device = body.word("device") if entry.kind in DEVICE_SAID else ""
    try:
        text = _text(entry.kind, body)
    except UnreadableEntryError:
        text = body.beginning()
    return AuditRow(
        seq=entry.seq,
        at=entry.at,
        kind=entry.kind,
        actor=body.word("by", "actor") or said_by_device or SYSTEM,
        device=body.word("device"),
        outcome=next((word for name in _OUTCOMES.get(entry.kind, ()) if (word := body.word(name))), ""),
        text=text,
        hash=entry.hash,
    )


def _text(kind: str, body: Body) -> str:  # noqa: PLR0915 - one line for each kind
    match kind:
        case "epoch_opened":
            why = f"; {body.text('restored')}" if body.text("restored") else ""
            text = f"an orchestrator took over with epoch {body.number('epoch'):.0f}{why}"
        case "rollout_started":
            text = f"started {body.mapping('release').get('release')}"
        case "staging_started":
            text = "all waves may fetch and install; nothing is activated"
        case "rollout_activated":
            text = "the canary may begin" + (f": {body.text('reason')}" if body.text("reason") else "")
        case "wave_started":
            text = f"wave {body.number('wave'):g} may begin"
        case "devices_joined":
            text = f"{len(body.names('devices'))} devices joined the last wave"
        case "devices_ordered":
            names = body.names("devices")
            early = " ahead of their wave" if body.flag("ahead") else ""
            order = f"{body.text('action')}{early}, generation {body.number('generation'):.0f}"
            text = f"{len(names)} devices ordered to {order}"
        case "grant_issued":
            text = f"may {body.text('step')}, generation {body.number('generation'):.0f}"
        case "device_announced":
            info = body.mapping("info")
            text = f"{info.get('device_type')} in {info.get('region')}, version {info.get('version')}"
        case "media_noted":
            text = media_text(body) or "nothing from media any more"
        case "devices_imported":
            text = f"{len(body.names('devices'))} devices declared"
        case "connections_lost":
            text = f"{len(body.names('devices'))} devices lost their connection"
        case "device_staged":
            text = "has it verified in standby, waits for its wave"
        case "device_proven":
            text = "healthy on the new version, waits for the gate"
        case "device_committed":
            text = f"runs {body.text('version')} in proven health"
        case "device_failed":
            text = f"{body.text('code')}: {body.text('message', '')}; runs {body.text('version', 'nobody knows what')}"
        case "device_retried":
            text = f"another attempt after {body.text('code')}"
        case "device_returned":
            text = f"runs {body.text('version')} again"
        case "soak_started":
            text = f"the soak of wave {body.number('wave'):g} began"
        case "canary_phase_started":
            phase = body.text("phase").replace("_", "-")
            text = f"the canary's {phase} phase began after {body.number('soaked_seconds'):.0f} s of soak"
        case "soak_progressed":
            text = f"{format_duration(body.number('soaked_seconds'))} of soak watched"
        case "soak_extended":
            text = f"extension {body.number('extension'):g}: {body.text('reason')}"
        case "gate_judged":
            text = f"{body.text('gate')} is {body.text('verdict')}: {body.text('decision')}"
        case "rollout_approved":
            text = f"approved after wave {body.number('wave'):g}"
        case "rollout_resumed":
            text = f"goes on, {len(body.names('excused'))} failures excused"
        case "rollback_ordered":
            count = len(body.names("devices"))
            text = f"{count} devices back ({body.text('scope')}) by {body.text('trigger')}: {body.text('reason')}"
        case "rollback_verified":
            text = f"{body.text('verdict')}: {body.number('healthy'):g} healthy"
        case "rollout_ended":
            text = f"{body.text('outcome')}: {body.text('reason')}"
        case "fleet_frozen":
            text = f"{body.number('silent'):g} of {body.number('of'):g} devices fell silent: {body.text('reason')}"
        case "command_answered":
            subject, reason = body.text("subject"), body.text("reason", "")
            text = f"{body.text('verb')} {subject}: {body.text('status')}" + (f" ({reason})" if reason else "")
        case "device_quarantined" | "device_released" | "device_skipped" | "rollout_paused" | "fleet_thawed":
            did, reason = kind.split("_")[1], body.text("reason", "")
            text = f"{did} by {body.text('by')}" + (f": {reason}" if reason else "")
        case _:
            text = body.text("reason", "") or body.beginning()
    return text
