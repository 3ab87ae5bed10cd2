"""``/docs``: what a service can be asked, and where its OpenAPI document is, for people with a browser.

No script: the page is in one origin with the console, and people have tokens at hand where they look such things up.
"""

from __future__ import annotations

from html import escape

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
</head>
<body>
<h1>{title}</h1>
<p>{description}</p>
<p>All of it, with every field and answer, is in the OpenAPI document <a href="/openapi.json">/openapi.json</a>. Save it
and open it with what you like: Swagger UI, Redocly, Postman, Bruno or your editor show it as pages and try requests; a
generator makes a client of it.</p>
<table>
<thead><tr><th scope="col" align="left">Request</th><th scope="col" align="left">What it does</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def add_api_page(app: FastAPI) -> None:
    """Serve the page at ``/docs``."""

    @app.get("/docs", include_in_schema=False)
    def api_page() -> HTMLResponse:
        document = app.openapi()
        rows = [
            f"<tr><td><code>{method.upper()} {escape(path)}</code></td><td>{escape(operation['summary'])}</td></tr>"
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]
        title, description = (escape(document["info"][name]) for name in ("title", "description"))
        page = _PAGE.format(title=title, description=description, rows="\n".join(rows))
        return HTMLResponse(page, headers=HEADERS)
