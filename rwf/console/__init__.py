"""The console: pages for operators, in a browser (contract §18).

:func:`app` makes an ASGI app to mount; ``rwf console`` serves one. It needs the extra
``rwf[console]``.
"""

try:
    from rwf.console.application import app
except ModuleNotFoundError as error:
    if error.name not in {"starlette", "jinja2"}:
        raise
    raise ModuleNotFoundError(
        f"the console needs {error.name}: pip install 'rwf[console]'", name=error.name
    ) from None

__all__ = ["app"]
