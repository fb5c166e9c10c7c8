"""Log lines of state changes."""

import json
import logging
import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tieralloc._common.events import log_event


class Lines(logging.Handler):
    """The records that a logger passes on, for one test."""

    def __enter__(self):
        self.records = []
        self.logger = logging.getLogger("tieralloc")
        self.level_before = self.logger.level
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self)
        return self.records

    def __exit__(self, *exception):
        self.logger.removeHandler(self)
        self.logger.setLevel(self.level_before)

    def emit(self, record):
        self.records.append(record)


def parse(line):
    """Names and texts of a line, by a parser of its own."""
    fields, rest = {}, line
    while rest:
        name, _, rest = rest.partition("=")
        if rest.startswith('"'):
            fields[name], end = json.JSONDecoder().raw_decode(rest)
        else:
            end = (rest + " ").index(" ")
            fields[name] = rest[:end]
        rest = rest[end:].removeprefix(" ")
    return fields


def test_event_has_one_line_and_fields():
    with Lines() as records:
        log_event(
            logging.WARNING,
            "policy_failed",
            store=Path("/a b.tier"),
            reason="x=1",
            rows=3,
            gone=None,
        )
    (record,) = records
    assert record.getMessage() == 'event=policy_failed store="/a b.tier" reason="x=1" rows=3'
    expected = {"event": "policy_failed", "store": "/a b.tier", "reason": "x=1", "rows": 3}
    assert record.tieralloc == expected
    assert (record.levelno, record.filename) == (logging.WARNING, Path(__file__).name)
    assert shlex.split(record.getMessage())[1] == "store=/a b.tier"


@given(st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), st.text(), max_size=4))
def test_event_of_any_texts_is_parsed_back(fields):
    fields = {f"x_{name}": text for name, text in fields.items()}
    with Lines() as records:
        log_event(logging.INFO, "tried", **fields)
    line = records[0].getMessage()
    assert "\n" not in line
    assert parse(line) == {"event": "tried", **fields}


def test_event_below_the_level_is_not_logged():
    with Lines() as records:
        logging.getLogger("tieralloc").setLevel(logging.ERROR)
        log_event(logging.WARNING, "tried", rows=1)
    assert not records
