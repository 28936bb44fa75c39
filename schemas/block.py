"""The base of every block that an operator writes: no unknown key, no silent default."""

from pydantic import BaseModel, ConfigDict


class StrictBlock(BaseModel):
    """A frozen block that refuses unknown keys."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", allow_inf_nan=False)
