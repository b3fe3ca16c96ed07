"""What an agent wrote as a destination, made into what the daemon dials.

A SIP or tel URI stays what it is, letter by letter. Anything else that consists of a telephone number's characters
loses its spaces, dashes, dots and brackets. Emergency numbers are never dialled, however they are dressed up: an agent
must not be the one who calls an ambulance, and no test may reach one.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

from .errors import DestinationRefused

EMERGENCY_NUMBERS = frozenset({"911", "112", "999", "000", "119", "110", "118"})

# No provider takes a longer one; anything above is a mistake or an attack.
MAX_LENGTH = 256

_URI = re.compile(r"^(sips?|tel):", re.IGNORECASE)
_NUMBER = re.compile(r"^\+?[0-9*#][0-9*#\s().\-/]*$")
_DRESSING = re.compile(r"[\s().\-/]")
_NAME = re.compile(r"^[A-Za-z0-9_.!~*'()&=+$?\-]+(@[A-Za-z0-9.\-\[\]:]+)?$")


def normalize(destination: object) -> str:
    """The destination to hand to `call.dial`. Raises DestinationRefused, with the reason, where there is none.

    `sip:user@domain.com` -> itself; `+1 (555) 010-0199` -> `+15550100199`; `user@domain.com` -> `sip:user@domain.com`;
    `alice` -> itself.
    """
    # Models write numbers as numbers, too.
    if destination is not None and (isinstance(destination, bool) or not isinstance(destination, (str, int))):
        raise DestinationRefused(f"neither a telephone number nor a SIP URI: {str(destination)[:MAX_LENGTH]!r}")
    text = unicodedata.normalize("NFKC", str(destination if destination is not None else "")).strip()
    if not text:
        raise DestinationRefused("no destination given: a telephone number or a SIP URI is needed")
    if len(text) > MAX_LENGTH:
        raise DestinationRefused(f"destination of {len(text)} characters, more than {MAX_LENGTH}")
    if any(unicodedata.category(letter).startswith("C") for letter in text):
        raise DestinationRefused("destination with line breaks or other control characters")
    if is_emergency(text):
        raise DestinationRefused("emergency numbers cannot be called by an agent: use a telephone", emergency=True)
    if _URI.match(text):
        if re.search(r"[\s<>\"]", text) or text.endswith(":"):
            raise DestinationRefused(f"not a SIP URI: {text!r}")
        return text
    if _NUMBER.match(text):
        return _DRESSING.sub("", text)
    if _NAME.match(text):
        return f"sip:{text}" if "@" in text else text
    raise DestinationRefused(f"neither a telephone number nor a SIP URI: {text!r}")


def is_emergency(destination: str) -> bool:
    """Whether this reaches an emergency number, as number, as tel URI or as a SIP URI's user part."""
    text = unicodedata.normalize("NFKC", destination).strip()
    user = unquote(_URI.sub("", text)).split("@", 1)[0]
    # `911;phone-context=+1` and `911:password` dial 911.
    user = re.split(r"[;:?]", user, maxsplit=1)[0]
    bare = re.sub(r"[\s().\-/+*#,]", "", user)
    return bare in EMERGENCY_NUMBERS
