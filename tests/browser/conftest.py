"""One running stack and one real browser for all tests of the console in it (Chromium by Playwright, no script run)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.key_registry.providers.probes import PROBES
from tests.e2e.running import Stack, start_stack
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS
from tests.shared_start import SharedStart

IMAGES = Path(__file__).parents[2] / "docs" / "images"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCHEMES = ("light", "dark")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here starts a stack and a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


# Ended after the last of these tests, also because a browser's driver leaves its event loop running beneath the next.
_shared = SharedStart(Path(__file__).parent)
pytest_runtest_setup, pytest_runtest_teardown = _shared.before, _shared.after


@contextmanager
def _chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(_ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Any:
    """Debian's Chromium, headless."""
    skip_unless(
        Path(CHROMIUM).exists(), "Chromium is not installed", "apt install chromium  # Debian", needs="chromium"
    )
    return _shared.enter(request, _chromium())


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A running stack with the demo's people to sign in as. Tests keep apart by organizations or keys of their own."""
    # No made-up key of a test is sent to a real provider.
    nobody = json.dumps(dict.fromkeys(PROBES, ""))
    return _shared.enter(request, start_stack(tmp_path_factory.mktemp("browser"), BYOK_PROVIDER_URLS=nobody))


@pytest.fixture
def page(browser: Any, stack: Stack) -> Iterator[Any]:
    """A new browser's page, as on a desk, in the light scheme; nobody is signed in."""
    context = browser.new_context(base_url=stack.told["console_url"], viewport=DESK, color_scheme="light")
    context.set_default_timeout(1_000 * PATIENCE_SECONDS)
    yield context.new_page()
    context.close()


@pytest.fixture
def sign_in(page: Any) -> Callable[[str], Any]:
    """Signs in as one of the demo's people by their button: ``sign_in("Fay")``; the page is then the first one."""

    def signed_in(name: str) -> Any:
        page.context.clear_cookies()
        page.goto("/sign-in")
        page.get_by_role("button", name=name).click()
        page.get_by_role("button", name="Sign out").wait_for()
        return page

    return signed_in


@pytest.fixture
def without_violations(page: Any) -> Callable[[], None]:
    """Has axe-core look at the page as it is now, in both schemes and on a phone; fails with what it finds.

    Colours change at once: in the middle of a transition they are none of either scheme.
    """
    from axe_playwright_python.sync_playwright import Axe

    def looked_at() -> None:
        for scheme in SCHEMES:
            for size in (DESK, PHONE):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.set_viewport_size(size)
                found = Axe().run(page)
                assert found.violations_count == 0, f"{page.url}, {scheme}, {size}: {found.generate_report()}"
                width = page.evaluate("document.documentElement.scrollWidth")
                assert width <= size["width"], f"{page.url} is {width} wide on {size}"
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light", reduced_motion="reduce")

    return looked_at


@pytest.fixture
def picture(page: Any) -> Callable[[str], None]:
    """Keeps the page as docs/images/NAME-light.png and -dark.png, where BYOK_TEST_PICTURES=1 asks for pictures."""

    def taken(name: str) -> None:
        if os.environ.get("BYOK_TEST_PICTURES") != "1":
            return
        IMAGES.mkdir(parents=True, exist_ok=True)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.screenshot(path=IMAGES / f"{name}-{scheme}.png")
        page.emulate_media(color_scheme="light", reduced_motion="reduce")

    return taken
