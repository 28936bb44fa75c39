from typing import Any


class Filter:
    def matches(self, fields: Any) -> bool:
        raise NotImplementedError


def parse_filter(text: str) -> Filter:
    raise NotImplementedError
