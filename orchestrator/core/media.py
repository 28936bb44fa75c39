"""What devices took from media, where nobody could be asked: their word is what there is, and it is accepted."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.messages import MediaRefusal, Reported

MediaOutcome = Literal["under_way", "installed", "failed"]


class MediaNote(BaseModel):
    """What a device said last about media.

    Attributes:
        order: Number of the order at hand, if that came from a medium.
        outcome: How far it is.
        version: What it wants.
        code: Why it failed; empty if it did not.
        refused: The last order on a medium that it refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    order: int | None = None
    outcome: MediaOutcome | None = None
    version: str | None = None
    code: str = ""
    refused: MediaRefusal | None = None

    @property
    def text(self) -> str:
        """In words; empty if there is nothing at hand."""
        if self.order is None:
            return ""
        match self.outcome:
            case "installed":
                return f"{self.version} was brought by media, order {self.order}"
            case "failed":
                return f"{self.version} of media order {self.order} failed: {self.code}"
            case _:
                return f"{self.version} of media order {self.order} is under way"


def follows_media(reported: Reported) -> bool:
    """Say whether a report is about an order from a medium, whatever generation was observed last."""
    return reported.media is not None and reported.media.order is not None


def note_of(reported: Reported) -> MediaNote | None:
    """Return what a report says about media; None if it says nothing."""
    media = reported.media
    if media is None:
        return None
    if media.order is None:
        return MediaNote(refused=media.refused)
    error = reported.error.code if reported.error is not None else ""
    if reported.state in {"failed", "rolled_back"}:
        outcome: MediaOutcome = "failed"
    else:
        is_done = reported.state == "idle" and reported.installed_version == reported.latest_version
        outcome = "installed" if is_done else "under_way"
    return MediaNote(
        order=media.order,
        outcome=outcome,
        version=reported.latest_version,
        code=(error or reported.state) if outcome == "failed" else "",
        refused=media.refused,
    )
