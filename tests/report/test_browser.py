"""The report in a real browser: it renders, and the browser has nothing to complain about."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--log-level=0",
]  # fmt: skip


def open_page(page: Path, profile: Path) -> tuple[str, str]:
    """(document after rendering, what the browser logged)."""
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
@pytest.mark.parametrize("name", ["index.html", "claims.html"])
def test_page_renders_without_complaints(reported: Path, tmp_path: Path, name: str) -> None:
    document, log = open_page(reported / "reports" / name, tmp_path / "profile")
    assert len(re.findall(r'<span class="chip">', document)) >= 12
    assert "</table>" in document
    assert not re.search(r"CONSOLE|net::ERR|Refused to", log), log


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_the_browser_would_have_complained(tmp_path: Path) -> None:
    """The check above sees a resource that the page's policy forbids."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'"><img src="http://127.0.0.1:9/x.png">'
    )
    _, log = open_page(page, tmp_path / "profile")
    assert re.search(r"CONSOLE|Refused to", log)
