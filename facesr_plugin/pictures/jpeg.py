"""The bytes of a JPEG, marker by marker: where its picture ends, and whether it is all there."""

import re
from typing import NamedTuple

START, END, SCAN = 0xD8, 0xD9, 0xDA
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment
# In compressed data FF is followed by 00 or stands before a restart marker; only these end it.
AFTER_SCAN = re.compile(rb'\xff+[\xc0-\xcf\xd9-\xdf\xe0-\xef\xfe]')


class Jpeg(NamedTuple):
    """What a walk over the markers finds.

    Attributes:
        end: Where the first picture ends; None where its end marker is missing.
        channels: Of its frame; 0 without one.
        has_all_scans: Whether a scan has begun for every coefficient of every channel, to the last bit.
    """

    end: int | None
    channels: int
    has_all_scans: bool


def walk(data: bytes) -> Jpeg:
    """Walk the markers of a JPEG file to the first picture's end; thumbnails within segments are passed over.

    What lies behind it, e.g. the film that phones append, is not looked at.
    """
    end, components, done = None, [], {}
    at = 2
    while at + 1 < len(data):
        if data[at] != 0xFF:
            found = data.find(b'\xff', at)  # garbage between segments, as decoders pass over it
            if found < 0:
                break
            at = found
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == END:
            end = at + 2
            break
        if marker in ALONE or marker in (0x00, START):
            at += 2
            continue
        if at + 4 > len(data):
            break
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], 'big')]
        at += 4 + len(body)
        if marker in FRAMES and not components and len(body) > 5:
            components = list(body[6 : 6 + 3 * body[5] : 3])
        if marker == SCAN:
            _note_scan(body, done)
            found = AFTER_SCAN.search(data, at)
            at = found.start() if found else len(data)
    everything = set(range(64))
    return Jpeg(end, len(components), bool(components) and all(done.get(c, set()) >= everything for c in components))


def _note_scan(body: bytes, done: dict[int, set[int]]) -> None:
    """Note which coefficients a scan brings to their last bit."""
    count = body[0] if body else 0
    if len(body) < 2 * count + 4:
        return
    first, last, low_bit = body[2 * count + 1], body[2 * count + 2], body[2 * count + 3] & 15
    for component in body[1 : 2 * count + 1 : 2]:
        if low_bit == 0:
            done.setdefault(component, set()).update(range(first, max(last, first) + 1))
