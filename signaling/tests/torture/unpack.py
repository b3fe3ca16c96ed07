#!/usr/bin/env python3
"""Unpacks the messages of RFC 4475 and RFC 5118 from the text of the RFC, where they stand bit by bit in appendix A.

    signaling/tests/torture/unpack.py rfc4475.txt signaling/tests/torture/rfc4475
    signaling/tests/torture/unpack.py rfc5118.txt signaling/tests/torture/rfc5118

Nothing is changed in them. The text of an RFC is at https://www.rfc-editor.org, and in Debian's package
doc-rfc-informational (non-free).
"""

import base64
import io
import re
import sys
import tarfile
from pathlib import Path

BEGIN, END = "-- BEGIN MESSAGE ARCHIVE --", "-- END MESSAGE ARCHIVE --"


def messages(text: str):
    """Name and bytes of each message. Lines of more than one word are page headers, which stand within the archive."""
    lines = text[text.rindex(BEGIN) : text.rindex(END)].splitlines()
    encoded = "".join(line.strip() for line in lines if re.fullmatch(r"\s*\S+\s*", line))
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(encoded))) as archive:
        for member in archive:
            if member.isfile():
                yield Path(member.name).stem + ".dat", archive.extractfile(member).read()


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    text, folder = Path(sys.argv[1]).read_text(encoding="latin-1"), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in messages(text):
        folder.joinpath(name).write_bytes(content)
        print(f"{folder / name}: {len(content)} bytes")


if __name__ == "__main__":
    main()
