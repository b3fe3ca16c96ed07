"""The page of calls as somebody in Tokyo sees it, in headless Chromium."""

from __future__ import annotations

import asyncio
import datetime
import zoneinfo
from typing import TYPE_CHECKING

from playwright.async_api import Page, async_playwright, expect

if TYPE_CHECKING:
    from scenarios import World

ZONE = "Asia/Tokyo"
NAME = "Bob <img src=x onerror=\"document.title='broken'\">"
WAIT_MS = 20_000


async def check(world: World, chromium: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            context = await browser.new_context(
                timezone_id=ZONE, locale="en-GB", viewport={"width": 1200, "height": 800}
            )
            page = await context.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            # The key is exchanged for a cookie here; the page itself is asked for without it.
            await page.goto(f"{world.mindroot.url}/calls?api_key={world.mindroot.key}")
            await page.goto(f"{world.mindroot.url}/calls")
            await _look(world, page)
            assert not errors, errors
        finally:
            await browser.close()


async def _look(world: World, page: Page) -> None:
    log_id, far = await world.inbound(NAME)
    row = page.locator(f"#rows tr[data-id='{log_id}']")
    # A call that comes in while the page is open is there without a reload, and runs.
    await expect(row.locator(".live")).to_be_visible(timeout=WAIT_MS)
    await expect(row).to_contain_text(NAME)
    assert await page.locator("img").count() == 0, "what a caller calls himself became HTML"
    await row.click()
    await far.say("one two three")
    await expect(page.locator("#transcript li.caller").first).to_be_visible(timeout=WAIT_MS)
    await _picture(world, page, "live")
    await far.hears("one two three")
    started = datetime.datetime.now(zoneinfo.ZoneInfo(ZONE))
    await far.call.hangup()

    # It ends under our eyes, and then there is something to listen to.
    await expect(row.locator(".live")).to_have_count(0, timeout=WAIT_MS)
    await expect(page.locator("#player")).to_be_visible(timeout=WAIT_MS)
    await expect(row).to_contain_text(f"{started.day} {started:%b %Y}")
    hours = {f"{(started - datetime.timedelta(minutes=back)):%H:%M}" for back in range(3)}
    text = await row.inner_text()
    assert any(hour in text for hour in hours), f"not the time in {ZONE}: {text!r}, {hours}"
    await expect(row.locator("td").nth(5)).to_contain_text("(")
    assert await page.title() == "Calls"

    # Both lanes are drawn, and a click in a line or in the picture jumps there.
    await page.wait_for_function("document.getElementById('audio').duration > 2", timeout=WAIT_MS)
    inks = await page.evaluate(
        """() => { const canvas = document.getElementById('picture'), pen = canvas.getContext('2d');
        const ink = (top) => pen.getImageData(0, top, canvas.width, canvas.height / 2).data.filter((_, i) => i % 4 == 3)
            .reduce((sum, alpha) => sum + (alpha > 0), 0);
        return [ink(0), ink(canvas.height / 2)]; }"""
    )
    assert min(inks) > 500, f"a lane is empty: {inks}"
    line = page.locator("#transcript li.caller").first
    start_s = float(await line.get_attribute("data-start") or 0) / 1000
    await line.click()
    await page.evaluate("document.getElementById('audio').pause()")
    now = float(await page.evaluate("document.getElementById('audio').currentTime"))
    assert start_s - 0.1 <= now <= start_s + 1.5, f"jumped to {now:.2f} s, the line is at {start_s:.2f} s"
    await expect(line).to_have_class("caller now")
    await _picture(world, page, "over")
    box = await page.locator("#picture").bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    await asyncio.sleep(0.2)
    now, length = await page.evaluate("(({currentTime, duration}) => [currentTime, duration])(audio)")
    assert abs(now - length / 2) < 0.3, f"the middle of {length:.1f} s is not {now:.1f} s"

    # Reloaded by its address the same call is shown; on a narrow screen nothing sticks out.
    await page.reload()
    await expect(page.locator("#title")).to_contain_text(NAME, timeout=WAIT_MS)
    await page.set_viewport_size({"width": 420, "height": 800})
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{wide} pixels stick out"
    await _picture(world, page, "narrow")


async def _picture(world: World, page: Page, name: str) -> None:
    if world.pictures is not None:
        world.pictures.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=str(world.pictures / f"calls-{name}.png"))
