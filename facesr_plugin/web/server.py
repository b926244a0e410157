"""Opens the page on 127.0.0.1 and nowhere else, for as long as the command runs; nothing stays behind."""

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from facesr_plugin.enlarge.network import Dial
from facesr_plugin.errors import UserError
from facesr_plugin.web.page import HERE, WebPage

HOST = '127.0.0.1'
MEGABYTES = 100  # of a file
POLICY = (  # what the browser may load: this page's own files, and pictures that it makes itself
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def listen(port: int) -> socket.socket:
    """Open a port of this machine that other machines cannot reach; 0 takes any that is free.

    Raises:
        UserError: It is taken, or may not be opened.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == 'posix':  # a port that was in use a moment ago; elsewhere this would share one that is in use
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise UserError(f'--port {port}: {error.strerror}; another one expected, 0 takes any that is free') from error
    listener.listen()
    return listener


def serve(
    dial: Dial, folder: Path, listener: socket.socket, megapixels: float, browse: bool, natural: float = 0
) -> None:
    """Show the page until the command is ended.

    Args:
        dial: The networks, on the device that is to work.
        folder: `own_folder`.
        listener: Where the page is, by `listen`.
        megapixels: Largest picture that is taken.
        browse: Whether to open a browser.
        natural: Where the dial stands at first.
    """
    page = WebPage(dial, folder / 'results', megapixels, MEGABYTES, natural)
    url = f'http://{HOST}:{listener.getsockname()[1]}'
    server = uvicorn.Server(uvicorn.Config(application(page), log_level='warning', timeout_graceful_shutdown=1))
    print(f'{url}  (Ctrl-C ends it)', flush=True)
    if browse and has_screen():
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        page.close()


def has_screen() -> bool:
    """Return whether a window can be opened; without one `webbrowser` would open a browser of text in the terminal."""
    return sys.platform in ('darwin', 'win32') or any(os.environ.get(name) for name in ('DISPLAY', 'WAYLAND_DISPLAY'))


def application(page: WebPage) -> FastAPI:
    """Return the page as a web application that answers this machine alone."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, 'localhost'])

    @app.middleware('http')
    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        own = f'{request.url.scheme}://{request.headers.get("host")}'
        is_stranger = request.headers.get('origin', own) != own  # another site that is open in the same browser
        response = Response(status_code=403) if is_stranger else await answer(request)
        response.headers.update({'Content-Security-Policy': POLICY, 'Referrer-Policy': 'no-referrer'})
        return response

    return gr.mount_gradio_app(
        app,
        page.blocks(),
        '/',
        server_name=HOST,
        footer_links=[],
        max_file_size=MEGABYTES * 10**6,
        show_error=True,
        theme=theme(),
        css_paths=HERE / 'style.css',
        head=f'<script>{(HERE / "script.js").read_text(encoding="utf-8")}</script>',
    )


def theme() -> gr.themes.Base:
    """Return Gradio's own look with fonts of this machine, and with greys and a blue that can be read."""
    fonts = {'font': ['system-ui', 'sans-serif'], 'font_mono': ['ui-monospace', 'monospace']}
    grey = {'body_text_color_subdued': '*neutral_600', 'block_info_text_color': '*neutral_600'}
    dark = {f'{name}_dark': '*neutral_300' for name in grey}
    button = {f'button_primary_background_fill{state}': '*primary_700' for state in ('_hover', '_hover_dark')}
    return gr.themes.Default(primary_hue='blue', **fonts).set(**grey, **dark, **button)
