"""Every command line of the documentation is typed as it stands and says what is shown, or is listed with a reason."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from schemas.topics import RULES, TOPIC_ROOT
from tests.docs.form import check_call, check_form, topics_in
from tests.docs.not_run import NOT_RUN, place_of, reason
from tests.docs.page_scenes import SCENES
from tests.docs.pages import ROOT, TYPED, Step, all_pages, blocks_of, steps_of
from tests.docs.reader import Reader

PAGES: Final = all_pages()
STEPS: Final = [step for page in PAGES for step in steps_of(page)]
INSTALLED: Final = {
    "mosquitto": re.compile(r"\b(?:mosquitto_(?:pub|sub|rr|passwd)|rr [a-z]+ )"),
    "debian": re.compile(r"\b(?:gpg|curl|sqlite3) "),
}
"""Marks, and the commands that need what they stand for."""
SESSIONS: Final = sorted({(step.page, step.session) for step in STEPS if not reason(step)})


def mark_of(step: Step) -> str | None:
    """Return the mark of what a command needs installed."""
    return next((mark for mark, pattern in INSTALLED.items() if pattern.search(step.text)), None)


def runs() -> Iterator[Any]:
    """Each session, with the marks of what it needs installed."""
    for page, session in SESSIONS:
        steps = [step for step in STEPS if (step.page, step.session) == (page, session)]
        steps = [step for step in steps if reason(step) is None]
        marks = sorted({mark for step in steps if (mark := mark_of(step)) is not None})
        name = f"{page} {session}".strip()
        yield pytest.param(steps, id=name, marks=[getattr(pytest.mark, mark) for mark in ("pages", *marks)])


@pytest.mark.parametrize("steps", list(runs()))
@pytest.mark.timeout(300)
def test_commands_of_a_page_can_be_typed_in_their_order_and_say_what_is_shown(
    steps: list[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        reader = Reader(stack, tmp_path / "here")
        scene = SCENES.get(f"{steps[0].page} {steps[0].session}".strip())
        monkeypatch.chdir(reader.folder)
        if scene is not None:
            scene(reader)
        for step in steps:
            reader.enter(step)
            reader.check_alive()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.page}:{step.line}")
def test_command_has_the_form_of_one_that_exists(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    check_form(step.text, monkeypatch)
    for topic in topics_in(step.text):
        assert is_of_the_tree(topic), f"{topic} is no topic"


def is_of_the_tree(topic: str) -> bool:
    """Say whether it is a topic or a filter of the contract, or the beginning of one, which a variable may hold."""
    levels = re.sub(r"\$\{?\w+\}?", "+", topic).removesuffix("/#").split("/")
    patterns = [f"{TOPIC_ROOT}/{rule.pattern}".split("/") for rule in RULES.values()]
    return any(
        len(levels) <= len(pattern)
        and all(
            level == "+" or there.startswith("{") or level == there
            for level, there in zip(levels, pattern, strict=False)
        )
        for pattern in patterns
    )


def test_every_reason_is_for_a_command_that_stands_there() -> None:
    for place, listed in NOT_RUN.items():
        for beginning, why in listed.items():
            assert why
            assert [step for step in STEPS if place_of(step) == place and step.text.startswith(beginning)], beginning


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_another_block(page: str) -> None:
    hidden = [
        (number, line)
        for block in blocks_of(page)
        if block.language not in TYPED
        for number, line in block.lines
        if re.match(r"(\$|sudo|tidegate(-agent|-guardian)?|mosquitto_\w+|docker|make|pip) [a-z$-]", line)
    ]
    assert hidden == [], f"{page}: write ```console in front of it"


@pytest.mark.parametrize("page", PAGES)
def test_what_the_text_says_to_type_exists(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    for program, rest in re.findall(r"`(tidegate(?:-agent|-guardian)?|make) ([a-z-][^`\n]*)`", prose):
        check_call(program, rest.replace("…", "").replace("'", ""), monkeypatch)
