"""The page of calls, and what it reads: `/calls`, `/calls/list`, `/calls/transcript/ID`, `/calls/audio/ID`.

A user sees the calls of its own conversations; an administrator sees all. MindRoot's middleware has seen to it that
there is a user. Records and recordings come from the archive, which checks names before they become paths; calls that
are up come from the telephone. Answers are JSON, and the page shows what is in them as text, never as HTML.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from .agent import phone
from .archive import Archive
from .errors import MrSipError
from .phone import live_record
from .session import Session, with_words

router = APIRouter()

PAGE = Path(__file__).with_name("templates") / "calls.html"
# A recording up to this long is sent in one piece to who asks for all of it: half an hour.
WHOLE_FILE_BYTES = 64 << 20
# At most so much of one is sent to who asks for a part.
PART_BYTES = 4 << 20
# Records change while a call is up; nobody is to see an old one.
FRESH = {"Cache-Control": "no-store"}


@router.get("/calls")
async def calls_page(request: Request) -> HTMLResponse:
    """The page itself, the same for everybody."""
    return HTMLResponse(await asyncio.to_thread(PAGE.read_text, encoding="utf-8"), headers=FRESH)


@router.get("/calls/list")
async def calls_list(request: Request) -> JSONResponse:
    """`{calls: [...]}`: those that are up, then those that are over, newest first; without what was said."""
    live = [live_record(session) for session in phone().sessions() if _may_see(request, _owner(session))]
    over = list(phone().being_written.values()) + await asyncio.to_thread(_archive().records)
    calls = live + [record for record in over if _may_see(request, record.get("user"))]
    return JSONResponse({"calls": calls}, headers=FRESH)


@router.get("/calls/transcript/{name}")
async def calls_transcript(request: Request, name: str) -> JSONResponse:
    """One call with what was said, and with the picture of its recording where there is one."""
    session = phone().session(name)
    if session is not None and _may_see(request, _owner(session)):
        record = live_record(session)
        try:
            told = await session.call.get()
            record.update({key: told[key] for key in ("stats", "codec") if key in told})
            record["transcript"] = with_words(list(told.get("transcript") or []), session.agent.said())
        except MrSipError as error:
            record["error"] = str(error)
        return JSONResponse(record, headers=FRESH)
    ending = phone().being_written.get(name)
    if ending is not None and _may_see(request, ending.get("user")):
        return JSONResponse(ending, headers=FRESH)
    record = await _record(request, name)
    record["picture"] = await asyncio.to_thread(_archive().picture, name)
    return JSONResponse(record, headers=FRESH)


@router.get("/calls/audio/{name}")
async def calls_audio(request: Request, name: str) -> Response:
    """The recording: left the caller, right the agent. Parts of it by `Range`.

    Not a `FileResponse` unless it is very long: one was seen to be cut short behind MindRoot's middlewares.
    """
    await _record(request, name)
    path = await asyncio.to_thread(_archive().recording, name)
    if path is None:
        raise HTTPException(404, "this call was not recorded")
    size = path.stat().st_size
    asked = byte_range(request.headers.get("range"), size)
    if asked is None and size > WHOLE_FILE_BYTES:
        return FileResponse(path, media_type="audio/wav")
    first, last = asked or (0, size - 1)
    headers = {"Accept-Ranges": "bytes", "Content-Disposition": f'inline; filename="{name}.wav"'}
    if first > last:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    if asked is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    data = await asyncio.to_thread(_read, path, first, last - first + 1)
    return Response(data, 206 if asked is not None else 200, headers, "audio/wav")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte that a `Range` asks for, cut to what is sent at once (RFC 9110, section 14; a player asks for
    the rest itself). First beyond last: there is nothing there. None: the whole file, also where it is not understood.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
        return (start, end) if int(last) else (size, size - 1)
    start = int(first)
    end = min(int(last) if last else size - 1, size - 1, start + PART_BYTES - 1)
    if last and int(last) < start:
        return None
    return (start, end) if start < size else (size, size - 1)


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


async def _record(request: Request, name: str) -> dict[str, Any]:
    record = await asyncio.to_thread(_archive().record, name)
    # Another user's call is not to be told from one that there never was.
    if record is None or not _may_see(request, record.get("user")):
        raise HTTPException(404, "no such call")
    return record


def _archive() -> Archive:
    archive = phone().archive
    if archive is None:
        raise HTTPException(404, "no calls are kept here")
    return archive


def _owner(session: Session) -> str:
    return session.agent.user


def _may_see(request: Request, owner: Any) -> bool:
    user = getattr(request.state, "user", None)
    if user is None:
        return False
    return "admin" in getattr(user, "roles", ()) or (bool(owner) and owner == getattr(user, "username", None))
