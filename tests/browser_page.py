"""What every test of a page in a browser looks for."""


def watch(page, site, problems):
    """Add a page's console errors, and its requests to other hosts than `site`, to `problems`."""
    page.on("console", lambda entry: problems.append(entry.text) if entry.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((site, "data:", "blob:"))
            else problems.append(request.url)
        ),
    )
